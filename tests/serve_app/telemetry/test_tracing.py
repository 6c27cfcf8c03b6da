"""When tracing is on, and that nothing happens when it is off."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping

import pytest

from serve_app.settings import SettingsError, load
from serve_app.telemetry import tracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("setting", "environ", "expected"),
    [
        (None, {}, False),
        (None, ENDPOINT, True),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}, True),
        (True, {}, True),
        (False, ENDPOINT, False),
        (True, {**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
        (None, {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_when_tracing_is_on(
    setting: bool | None, environ: Mapping[str, str], expected: bool
) -> None:
    assert tracing.should_start(setting, environ) is expected


def test_when_off_no_spans_are_created_and_no_context_is_passed_on() -> None:
    with tracing.span("a", "server", {"traceparent": "00-1-1-01"}, documents=1) as current:
        assert current is None
        tracing.record_span("b", 1.0)
    assert tracing.span("a") is tracing.NO_SPAN
    assert tracing.trace_kwargs() == {}
    assert tracing.trace_id() is None
    tracing.flush()


def test_when_off_no_exporter_is_imported() -> None:
    code = (
        "import sys, serve_app.deployments.ingress, serve_app.deployments.replica; "
        "import serve_app.telemetry.tracing as t; "
        "t.start_if_enabled(None); "
        "print([m for m in sys.modules if m.startswith('opentelemetry.exporter.otlp')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_an_unresponsive_collector_does_not_delay_the_exit() -> None:
    code = (
        "import serve_app.telemetry.tracing as t; t.start(); t.record_span('a', 1.0)\n"
        "with t.span('b'): print(sorted(t.trace_kwargs()['trace']))\n"
        "t.flush()"
    )
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stdout.strip()) == (0, "['traceparent']"), done.stderr


def test_enabling_traces_without_the_extra_is_an_invalid_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load({}, {"RERANKER_TRACES": "true"}).observability.traces
    monkeypatch.setattr("serve_app.settings.observability.installed", lambda: False)
    with pytest.raises(SettingsError, match=r"RERANKER_TRACES.*rerank-serve\[otel\]"):
        load({}, {"RERANKER_TRACES": "true"})


def test_an_unsupported_protocol_is_logged_as_a_warning(
    monkeypatch: pytest.MonkeyPatch, serve_log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    tracing.start_if_enabled(True)
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in serve_log.text
    assert not tracing.enabled()


def test_a_collector_without_the_extra_is_logged_as_a_warning(
    monkeypatch: pytest.MonkeyPatch, serve_log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT["OTEL_EXPORTER_OTLP_ENDPOINT"])
    monkeypatch.setattr(tracing, "installed", lambda: False)
    tracing.start_if_enabled(None)
    assert "rerank-serve[otel]" in serve_log.text
    assert not tracing.enabled()
