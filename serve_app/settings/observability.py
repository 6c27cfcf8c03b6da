"""Logs and traces."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from serve_app.settings.base import Frozen, setting
from serve_app.telemetry.tracing import installed

LogFormat = Literal["text", "json"]


class ObservabilitySettings(Frozen):
    """Logs and traces (docs/observability.md)."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = setting(
        "LOG_LEVEL", "INFO", "Log level."
    )
    log_format: LogFormat = setting(
        "LOG_FORMAT", "text", "Log format: `text`, or `json`: one JSON object per line."
    )
    access_log: bool = setting("RERANKER_ACCESS_LOG", True, "Log each request, at level INFO.")
    traces: bool | None = setting(
        "RERANKER_TRACES",
        None,
        "Export OpenTelemetry spans (extra `otel`); unset: only if OTEL_EXPORTER_OTLP_ENDPOINT is "
        "set.",
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("traces")
    @classmethod
    def _is_installed(cls, value: bool | None) -> bool | None:
        if value and not installed():
            raise ValueError("OpenTelemetry is not installed: run pip install 'rerank-serve[otel]'")
        return value
