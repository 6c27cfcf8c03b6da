"""Which models are served: local ones, models of providers, and pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from models.remote.address import check_base, url_of
from models.remote.errors import RemoteConfigError
from models.remote.forms import CHAT
from models.remote.providers import PROVIDERS
from models.remote.types import Judge, RemoteSpec, Scale, Structured
from models.types import EMBEDDED, Backend, LongDocument
from serve_app.pipeline_spec import Milliseconds, Pipeline, Stages, problem
from serve_app.service.catalog import HOSTED_ALIASES, Catalog
from serve_app.settings.base import Frozen, setting
from serve_app.settings.inference import Device, Quantization
from serve_app.settings.scaling import ModelScaling
from serve_app.settings.unknown_names import similar, unknown

# A judge makes many calls for one request.
TIMEOUT_S, JUDGE_TIMEOUT_S = 30.0, 100.0


class _Entry(Frozen):
    name: Annotated[str, Field(min_length=1)]
    aliases: tuple[str, ...] = ()
    fallback: str | None = None


class _Model(_Entry):
    instruction: str | None = None
    max_tokens_per_doc: Annotated[int, Field(ge=1)] | None = None


class LocalModel(ModelScaling, _Model):
    """A model that runs here. What is unset is taken from the settings of all models."""

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


class RemoteModel(_Model):
    """A model that a provider scores (docs/providers.md)."""

    provider: str
    num_replicas: Annotated[int, Field(ge=1)] | None = None
    model: Annotated[str, Field(min_length=1)] | None = None
    base_url: str | None = Field(None, repr=False)
    api_key_env: Annotated[str, Field(min_length=1)] | None = None
    api_key_file: Annotated[str, Field(min_length=1)] | None = None
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    parallel_calls: Annotated[int, Field(ge=1, le=1000)] = 8
    max_documents: Annotated[int, Field(ge=1)] | None = None
    scores: Scale | None = None
    parameters: dict[str, Any] = Field(default_factory=dict, repr=False)
    region: str | None = None
    project: str | None = None
    judge: Judge = "score"
    window: Annotated[int, Field(ge=2, le=200)] = 20
    step: Annotated[int, Field(ge=1, le=200)] = 10
    structured: Structured = "auto"
    max_calls: Annotated[int, Field(ge=1)] = 200
    max_tokens_per_hour: Annotated[int, Field(ge=1)] | None = None

    @field_validator("provider")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in PROVIDERS:
            raise ValueError(f"provider must be one of {', '.join(PROVIDERS)}")
        return value

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
    def _can_be_called(self) -> RemoteModel:
        if self.step > self.window:
            raise ValueError("step must not be larger than window: documents would be left out")
        try:
            url_of(PROVIDERS[self.provider], self.spec())
        except RemoteConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def spec(self) -> RemoteSpec:
        """What the replica needs to know about the model."""
        usual = JUDGE_TIMEOUT_S if PROVIDERS[self.provider].form == CHAT else TIMEOUT_S
        given = {field.name: getattr(self, field.name) for field in fields(RemoteSpec)}
        return RemoteSpec(**{**given, "timeout_s": self.timeout_s or usual})


class PipelineEntry(_Entry):
    """A pipeline over the models that are served (docs/pipelines.md)."""

    stages: Stages = Field(alias="pipeline")
    budget_ms: Milliseconds | None = None

    @model_validator(mode="after")
    def _can_run(self) -> PipelineEntry:
        try:
            self.pipeline  # noqa: B018, its own checks are wanted
        except ValidationError as error:
            raise ValueError(problem(error)[1]) from None
        return self

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline(stages=self.stages, budget_ms=self.budget_ms)


KINDS: Mapping[str, type[_Entry]] = {
    "local": LocalModel,
    "remote": RemoteModel,
    "pipeline": PipelineEntry,
}


def _kind(entry: object) -> str | None:
    if isinstance(entry, Mapping):
        return "pipeline" if "pipeline" in entry else "remote" if "provider" in entry else "local"
    return next((tag for tag, kind in KINDS.items() if isinstance(entry, kind)), None)


Entry = Annotated[
    Annotated[LocalModel, Tag("local")]
    | Annotated[RemoteModel, Tag("remote")]
    | Annotated[PipelineEntry, Tag("pipeline")],
    Discriminator(
        _kind,
        custom_error_type="entry",
        custom_error_message="an entry of `models` must be an object",
    ),
]


def keys_of(kind: str) -> list[str]:
    """The keys that an entry of this kind takes."""
    return [field.alias or name for name, field in KINDS[kind].model_fields.items()]


def misplaced(kind: str, key: str) -> str:
    """What is wrong with a key that an entry of this kind does not take."""
    local, remote, pipeline = (keys_of(kind) for kind in KINDS)
    if kind == "pipeline" and key in (*local, *remote):
        return f"{key} belongs to a model, not to a pipeline"
    if key in pipeline:
        return f"{key} belongs to a pipeline"
    if kind == "local" and key in remote:
        return f"{key} belongs to a model with a `provider`"
    if kind == "remote" and key in local:
        return f"{key} belongs to a local model, not to one with a `provider`"
    known = (*keys_of(kind), "provider", "pipeline")
    return unknown(key, similar(key, {name: name for name in known}), known)


class ModelsSettings(Frozen):
    """Which models are served, and under which names (docs/models.md)."""

    source: str = setting(
        "RERANKER_MODEL",
        EMBEDDED,
        "Model to serve: `embedded`, or a Hugging Face name.",
        name="model",
    )
    local_path: str | None = setting(
        "RERANKER_LOCAL_MODEL_PATH",
        None,
        "Folder of the checkpoint to serve; overrides RERANKER_MODEL.",
        name="local_model_path",
    )
    entries: tuple[Entry, ...] = setting(
        "RERANKER_MODELS",
        (),
        "Models and pipelines to serve, each with a name.",
        name="models",
        json=True,
    )
    default: str | None = setting(
        "RERANKER_DEFAULT_MODEL",
        None,
        "Entry of `models` for requests that name no model; unset: the first.",
        name="default_model",
    )

    @model_validator(mode="after")
    def _names_are_clear(self) -> ModelsSettings:
        names = list(self.catalog().names)
        taken = names + [alias for entry in self.entries for alias in entry.aliases]
        if twice := sorted({name for name in taken if taken.count(name) > 1}):
            raise ValueError(f"models: the name {twice[0]!r} is used twice")
        _check_fallbacks(self.entries)
        if self.default is not None and self.default not in names:
            raise ValueError(f"default_model: {self.default!r} is not one of {names}")
        return self

    def served(self) -> tuple[LocalModel | RemoteModel, ...]:
        """The models of `entries`; if there are none, the one that RERANKER_MODEL names."""
        models = tuple(e for e in self.entries if not isinstance(e, PipelineEntry))
        return models or (self._single(),)

    def _single(self) -> LocalModel:
        source = self.local_path or self.source
        if self.local_path:
            name = self.local_path.rstrip("/").rsplit("/", 1)[-1]
        else:
            name = "all-MiniLM-L6-v2-maxsim" if source == EMBEDDED else source.rstrip("/")
        return LocalModel(name=name, source=source)

    def local(self) -> tuple[LocalModel, ...]:
        """The served models that run here."""
        return tuple(model for model in self.served() if isinstance(model, LocalModel))

    def pipelines(self) -> dict[str, Pipeline]:
        """The pipelines by name."""
        return {e.name: e.pipeline for e in self.entries if isinstance(e, PipelineEntry)}

    def catalog(self) -> Catalog:
        """The names that requests may use: models, pipelines, their aliases, well-known names."""
        names = tuple(entry.name for entry in self.entries)
        if all(isinstance(entry, PipelineEntry) for entry in self.entries):
            names = (*names, self._single().name)
        default = self.default or names[0]
        explicit = {alias: entry.name for entry in self.entries for alias in entry.aliases}
        hosted = {alias: default for alias in HOSTED_ALIASES if alias not in names}
        return Catalog(names=names, default=default, aliases={**hosted, **explicit})


def _check_fallbacks(entries: Sequence[_Entry]) -> None:
    """Raises ValueError for a fallback that is not a served model, or that leads in a circle."""
    fallbacks = {entry.name: entry.fallback for entry in entries}
    pipelines = {entry.name for entry in entries if isinstance(entry, PipelineEntry)}
    for name, other in fallbacks.items():
        if other is not None and other not in fallbacks:
            raise ValueError(f"models: the fallback {other!r} of {name!r} is not one of them")
        if other in pipelines:
            raise ValueError(f"models: the fallback {other!r} of {name!r} is a pipeline")
        seen = {name}
        while other is not None:
            if other in seen:
                raise ValueError(f"models: the fallbacks of {name!r} lead back to {other!r}")
            seen.add(other)
            other = fallbacks[other]
