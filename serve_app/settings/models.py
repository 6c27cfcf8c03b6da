"""The settings of named models: local ones, providers' models, and pipelines."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from models.remote.address import check_base, url_of
from models.remote.errors import RemoteConfigError
from models.remote.forms import CHAT
from models.remote.providers import PROVIDERS
from models.remote.types import Judge, RemoteSpec, Scale, Structured
from models.types import EMBEDDED, LongDocument, Precision
from serve_app.pipeline_spec import Milliseconds, Pipeline, Stages
from serve_app.settings.base import Frozen
from serve_app.settings.scaling import ModelScaling

Device = Literal["auto", "cuda", "mps", "mlx", "cpu"]
Backend = Literal["auto", "torch", "openvino", "mlx"]
Quantization = Literal["auto", "fp32", "bf16", "fp16", "int8", "8bit", "4bit"]
DTYPES: Mapping[str, Precision] = {
    "auto": "auto",
    "fp32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "int8": "int8",
    "8bit": "8bit",
    "4bit": "4bit",
}
# Settings of an entry that a provider's model has in common with a local one.
SHARED = ("name", "aliases", "instruction", "max_tokens_per_doc", "fallback", "num_replicas")
PIPELINE = ("name", "aliases", "fallback", "pipeline", "budget_ms")
# A judge is asked many times for one request.
TIMEOUT_S, JUDGE_TIMEOUT_S = 30.0, 100.0
SPECIAL = ("auto", "none")


def _absolute(value: str) -> str:
    # The replica that uses it works in another folder.
    return value if value in SPECIAL else str(Path(value).expanduser().absolute())


Conversions = Annotated[str, AfterValidator(_absolute)]


def folder_of(setting: str) -> str | None:
    """The folder that the setting means, by the XDG convention; None for none."""
    if setting == "none":
        return None
    if setting != "auto":
        return setting
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(base) / "rerank-serve" / "openvino")


class ModelFields(Frozen):
    """What an entry of `models` takes beside a local model's settings (docs/providers.md)."""

    name: Annotated[str, Field(min_length=1)]
    aliases: tuple[str, ...] = ()
    instruction: str | None = None
    max_tokens_per_doc: Annotated[int, Field(ge=1)] | None = None
    fallback: str | None = None
    provider: str | None = None
    model: Annotated[str, Field(min_length=1)] | None = None
    base_url: str | None = None
    api_key_env: Annotated[str, Field(min_length=1)] | None = None
    api_key_file: Annotated[str, Field(min_length=1)] | None = None
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    parallel_calls: Annotated[int, Field(ge=1, le=1000)] = 8
    max_documents: Annotated[int, Field(ge=1)] | None = None
    scores: Scale | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    region: str | None = None
    project: str | None = None
    judge: Judge = "score"
    window: Annotated[int, Field(ge=2, le=200)] = 20
    step: Annotated[int, Field(ge=1, le=200)] = 10
    structured: Structured = "auto"
    max_calls: Annotated[int, Field(ge=1)] = 200
    max_tokens_per_hour: Annotated[int, Field(ge=1)] | None = None
    pipeline: Stages | None = None
    budget_ms: Milliseconds | None = None

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                check_base(value)
            except RemoteConfigError as error:
                raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _fits_its_kind(self) -> ModelFields:
        if self.pipeline is not None:
            if other := sorted(self.model_fields_set - set(PIPELINE)):
                raise ValueError(f"{other[0]} belongs to a model, not to a pipeline")
            self.as_pipeline()
            return self
        if self.budget_ms is not None:
            raise ValueError("budget_ms belongs to a pipeline")
        remote = set(ModelFields.model_fields) - set(PIPELINE)
        if self.provider is None:
            if alone := sorted((self.model_fields_set & remote) - set(SHARED)):
                raise ValueError(f"{alone[0]} belongs to a model with a `provider`")
            return self
        if local := sorted(self.model_fields_set - remote - set(SHARED)):
            raise ValueError(f"{local[0]} belongs to a local model, not to one with a `provider`")
        if self.provider not in PROVIDERS:
            raise ValueError(f"provider must be one of {', '.join(PROVIDERS)}")
        if self.step > self.window:
            raise ValueError("step must not be larger than window: documents would be left out")
        try:
            url_of(PROVIDERS[self.provider], self.remote_spec())
        except RemoteConfigError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def is_remote(self) -> bool:
        return self.provider is not None

    def as_pipeline(self) -> Pipeline:
        """The pipeline of an entry that has stages."""
        return Pipeline(stages=self.pipeline or (), budget_ms=self.budget_ms)

    def remote_spec(self) -> RemoteSpec:
        """The spec of an entry that names a provider."""
        provider = PROVIDERS[self.provider or ""]
        usual = JUDGE_TIMEOUT_S if provider.form == CHAT else TIMEOUT_S
        given = {f.name: getattr(self, f.name) for f in fields(RemoteSpec)}
        return RemoteSpec(**{**given, "timeout_s": self.timeout_s or usual})


class ModelSettings(ModelFields, ModelScaling):
    """One named model. What is left out is taken from the service's settings."""

    source: Annotated[str, Field(min_length=1)] = EMBEDDED
    revision: str | None = None
    device: Device | None = None
    backend: Backend | None = None
    quantization: Quantization | None = None
    max_length: Annotated[int, Field(ge=8)] | None = None
    normalize_text: bool | None = None
    trust_remote_code: bool = False
    family: str = "auto"
    template: str = "auto"
    label: int | str | None = None
    layer: Annotated[int, Field(ge=1)] | None = None
    long_document: LongDocument | None = None


def check_fallbacks(entries: Sequence[ModelFields]) -> None:
    """Raises ValueError where a model's stand-in is not served, or stands in for itself."""
    fallbacks = {entry.name: entry.fallback for entry in entries}
    pipelines = {entry.name for entry in entries if entry.pipeline is not None}
    for name, other in fallbacks.items():
        if other is not None and other not in fallbacks:
            raise ValueError(f"models: the fallback {other!r} of {name!r} is not one of them")
        if other in pipelines:
            raise ValueError(f"models: the fallback {other!r} of {name!r} is a pipeline")
        seen = {name}
        while other is not None:
            if other in seen:
                raise ValueError(f"models: the fallbacks of {name!r} come back to {other!r}")
            seen.add(other)
            other = fallbacks[other]
