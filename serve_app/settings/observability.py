"""The settings of logs and traces."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from serve_app.settings.base import Frozen, env
from serve_app.telemetry.tracing import installed

LogFormat = Literal["text", "json"]


class ObservationSettings(Frozen):
    """What is written of each request (docs/observability.md)."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = env(
        "LOG_LEVEL", "INFO", "How much is logged."
    )
    log_format: LogFormat = env(
        "LOG_FORMAT", "text", "Lines for people, or one JSON object a line."
    )
    access_log: bool = env("RERANKER_ACCESS_LOG", True, "A line for each request, at INFO.")
    traces: bool | None = env(
        "RERANKER_TRACES",
        None,
        "Spans by OpenTelemetry (extra `otel`); empty: where OTEL_EXPORTER_OTLP_ENDPOINT is set.",
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
            raise ValueError("traces need pip install 'rerank-serve[otel]'")
        return value
