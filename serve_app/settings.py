"""Every setting, once. Flags win over the application's arguments, these over the environment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from pydantic import ValidationError, model_validator

from models.types import EMBEDDED, LongDocument, ModelSpec
from serve_app.access.settings import AccessSettings
from serve_app.bounds import BoundsSettings
from serve_app.cache.settings import StoreSettings
from serve_app.catalog import HOSTED_ALIASES, Catalog
from serve_app.conversions import Conversions, folder_of
from serve_app.model_settings import DTYPES, Backend, Device, ModelSettings, Quantization
from serve_app.observation_settings import ObservationSettings
from serve_app.pipelines import Pipeline
from serve_app.pipelines.settings import check_pipelines
from serve_app.profiles import ProfileError, read_profile
from serve_app.remote_settings import PIPELINE, SHARED, ModelFields, check_fallbacks
from serve_app.scaling import ScalingSettings
from serve_app.settings_base import env as _env
from serve_app.traffic import Traffic

# Never shown, also where they are wrong.
_SECRET = frozenset({"api_keys", "base_url", "parameters", "redis_url"})


# In the order in which they are shown.
_PARTS = (BoundsSettings, StoreSettings, AccessSettings, ScalingSettings, ObservationSettings)


class SettingsError(Exception):
    """A setting is wrong or unknown; the message names it."""


class Settings(BoundsSettings, AccessSettings, StoreSettings, ScalingSettings, ObservationSettings):
    """The service's settings: one frozen object, made once at the start."""

    model: str = _env("RERANKER_MODEL", EMBEDDED, "Model: `embedded`, or a Hugging Face name.")
    local_model_path: str | None = _env(
        "RERANKER_LOCAL_MODEL_PATH", None, "A checkpoint's folder; wins over RERANKER_MODEL."
    )
    models: tuple[ModelSettings, ...] = _env(
        "RERANKER_MODELS", (), "Several named models (JSON in the environment)."
    )
    default_model: str | None = _env(
        "RERANKER_DEFAULT_MODEL", None, "Which of `models` answers when none is named."
    )
    max_length: int | None = _env(
        "RERANKER_MAX_LENGTH", None, "Tokens a row may have; empty: the checkpoint's own.", ge=8
    )
    quantization: Quantization = _env(
        "RERANKER_QUANTIZATION",
        "auto",
        "Precision; auto: bf16 where the hardware multiplies it. 8bit, 4bit: weights, on MLX.",
    )
    mixed_precision: bool = _env(
        "ENABLE_MIXED_PRECISION", True, "False: `auto` precision means fp32."
    )
    device: Device = _env(
        "RERANKER_DEVICE",
        "auto",
        "Where models run; auto: cuda, mps, cpu. mlx: MLX, on the device that it prefers.",
    )
    backend: Backend = _env(
        "RERANKER_BACKEND",
        "auto",
        "What runs the forward pass; auto: mlx on Apple Silicon; openvino on a processor, for "
        "encoders; each where it is installed; else torch.",
    )
    torch_compile: bool = _env("ENABLE_TORCH_COMPILE", False, "Compile the forward pass.")
    normalize_text: bool | None = _env(
        "RERANKER_NORMALIZE_TEXT", None, "NFC, control characters, white space; empty: by model."
    )
    family: str = _env(
        "RERANKER_FAMILY",
        "auto",
        "Kind of model (docs/models.md); auto: by the checkpoint's config.",
    )
    template: str = _env(
        "RERANKER_TEMPLATE",
        "auto",
        "Prompt of a decoder (docs/models.md); auto: the checkpoint's own.",
    )
    instruction: str | None = _env(
        "RERANKER_INSTRUCTION",
        None,
        "The task, for models that are prompted; empty: the prompt's own.",
    )
    max_tokens_per_doc: int | None = _env(
        "RERANKER_MAX_TOKENS_PER_DOC",
        None,
        "Tokens of each document that are scored; empty: all.",
        ge=1,
    )
    long_document: LongDocument = _env(
        "RERANKER_LONG_DOCUMENT",
        "truncate",
        (
            "What is longer than the model reads: `truncate`, or `max_passage`: the best "
            "of overlapping passages."
        ),
    )
    batch_size: int | None = _env(
        "RERANKER_BATCH_SIZE",
        None,
        "Rows in a micro-batch at most; empty: tokens alone bound it.",
        ge=1,
    )
    token_budget: int | None = _env(
        "RERANKER_TOKEN_BUDGET",
        None,
        "Padded tokens in a micro-batch; empty: the fastest, found at the warm-up.",
        ge=64,
    )
    conversions: Conversions = _env(
        "RERANKER_CONVERSIONS",
        "auto",
        "Folder where models converted for OpenVINO are kept, so that later starts are quicker; "
        "`none`: nowhere; auto: rerank-serve/openvino in the user's cache folder.",
    )
    micro_batch: bool = _env(
        "MICRO_BATCH_ENABLED", True, "Merge chunks of different requests into one forward pass."
    )
    micro_batch_window_ms: float = _env(
        "MICRO_BATCH_WINDOW_MS", 0.0, "Milliseconds to wait for more chunks.", ge=0, le=1000
    )
    warmup: bool = _env("WARMUP_ON_START", True, "Run a forward pass before the replica is ready.")
    image_urls: bool = _env(
        "RERANKER_IMAGE_URLS",
        False,
        (
            "Fetch image documents given by URL. Whoever can send a request can then "
            "make the service call addresses that it can reach."
        ),
    )
    profile: str | None = _env(
        "RERANKER_PROFILE",
        None,
        "A file of settings by name (docs/scaling.md) or by path; any other source wins over it.",
    )
    host: str = _env("HOST", "127.0.0.1", "Address to listen on.")
    port: int = _env("PORT", 8000, "Port to listen on.", ge=1, le=65535)
    traffic: Traffic = _env(
        "RERANKER_TRAFFIC",
        "auto",
        "How `rerank up` lets requests in: `haproxy` (direct ingress behind HAProxy), `proxy` "
        "(Ray Serve's own); auto: haproxy where it runs.",
    )
    use_mlx: bool = _env("RERANKER_USE_MLX", False, "True: the same as RERANKER_BACKEND=mlx.")

    @model_validator(mode="after")
    def _one_backend_is_named(self) -> Settings:
        if self.use_mlx and self.backend not in ("auto", "mlx"):
            raise ValueError(
                f"RERANKER_USE_MLX and RERANKER_BACKEND={self.backend} contradict each other"
            )
        return self

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Settings:
        names = list(self.catalog().names)
        taken = names + [alias for m in self.models for alias in m.aliases]
        twice = sorted({name for name in taken if taken.count(name) > 1})
        if twice:
            raise ValueError(f"models: the name {twice[0]!r} is given twice")
        check_fallbacks(self.models)
        if self.default_model is not None and self.default_model not in names:
            raise ValueError(f"default_model: {self.default_model!r} is not one of {names}")
        check_pipelines(self)
        return self

    @model_validator(mode="after")
    def _prices_are_of_models(self) -> Settings:
        names = [m.name for m in self.model_settings()]
        if unknown := sorted(self.prices.keys() - set(names)):
            raise ValueError(f"prices: {unknown[0]!r} is not one of the models {names}")
        return self

    @model_validator(mode="after")
    def _scaling_fits(self) -> Settings:
        for model in self.model_settings():
            if problem := self.scaling(model).problem():
                raise ValueError(f"model {model.name!r}: {problem}")
        return self

    def model_settings(self) -> tuple[ModelSettings, ...]:
        """The models to serve: those of `models`, or the one that model and local_model_path name.

        That one is served, too, where `models` has pipelines alone.
        """
        if models := tuple(entry for entry in self.models if entry.pipeline is None):
            return models
        source = self.local_model_path or self.model
        name = "all-MiniLM-L6-v2-maxsim" if source == EMBEDDED else source.rstrip("/")
        if self.local_model_path:
            name = self.local_model_path.rstrip("/").rsplit("/", 1)[-1]
        return (ModelSettings(name=name, source=source),)

    def spec(self, model: ModelSettings) -> ModelSpec:
        """The model's own settings over the service's."""
        quantization = model.quantization or self.quantization
        num_cpus = self.scaling(model).num_cpus
        if quantization == "auto" and not self.mixed_precision:
            quantization = "fp32"
        return ModelSpec(
            name=model.name,
            source=model.source,
            revision=model.revision,
            device=model.device or self.device,
            backend=model.backend or ("mlx" if self.use_mlx else self.backend),
            dtype=DTYPES[quantization],
            max_length=model.max_length or self.max_length,
            normalize_text=(
                self.normalize_text if model.normalize_text is None else model.normalize_text
            ),
            trust_remote_code=model.trust_remote_code,
            compile=self.torch_compile,
            token_budget=self.token_budget,
            batch_size=self.batch_size,
            threads=max(1, int(num_cpus)) if num_cpus else None,
            family=model.family if model.family != "auto" else self.family,
            template=model.template if model.template != "auto" else self.template,
            instruction=model.instruction or self.instruction,
            label=model.label,
            layer=model.layer,
            max_tokens_per_doc=model.max_tokens_per_doc or self.max_tokens_per_doc,
            long_document=model.long_document or self.long_document,
            representation_cache_bytes=self.representation_cache_bytes,
            conversions=folder_of(self.conversions),
        )

    def pipelines(self) -> dict[str, Pipeline]:
        """The pipelines of `models`, by name."""
        entries = (entry for entry in self.models if entry.pipeline is not None)
        return {entry.name: entry.as_pipeline() for entry in entries}

    def catalog(self) -> Catalog:
        """Names that requests may use: models, pipelines, their aliases, the well-known names."""
        models = self.models
        if len(self.pipelines()) == len(models):
            models = (*models, *self.model_settings())
        names = tuple(m.name for m in models)
        default = self.default_model or names[0]
        explicit = {alias: m.name for m in models for alias in m.aliases}
        hosted = {alias: default for alias in HOSTED_ALIASES if alias not in names}
        return Catalog(names=names, default=default, aliases={**hosted, **explicit})


def _env_names() -> Iterator[tuple[str, str]]:
    # What a model is comes before how often it runs.
    fields = Settings.model_fields
    parts = [part.model_fields for part in _PARTS]
    for name in chain(Settings.__annotations__, *parts):
        extra = fields[name].json_schema_extra
        if isinstance(extra, dict):
            yield str(extra["env"]), name


ENV_NAMES: Mapping[str, str] = dict(_env_names())


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    unknown = sorted(k for k in environ if k.startswith("RERANKER_") and k not in ENV_NAMES)
    if unknown:
        raise SettingsError(f"{unknown[0]} is not a setting. Known: {', '.join(sorted(ENV_NAMES))}")
    values: dict[str, Any] = {
        field: environ[env] for env, field in ENV_NAMES.items() if environ.get(env, "") != ""
    }
    for field in ("models", "resources", "prices"):
        if field in values:
            env = f"RERANKER_{field.upper()}"
            try:
                values[field] = json.loads(values[field])
            except ValueError as error:
                raise SettingsError(f"{env} is not JSON: {error}") from error
    return values


def load(
    args: Mapping[str, Any],
    environ: Mapping[str, str],
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge the three sources, a profile below them, and check the sum.

    Raises SettingsError naming the setting, and its environment variable, that is wrong.
    """
    values = {**_from_environment(environ), **args, **(flags or {})}
    if values.get("profile"):
        try:
            values = {**read_profile(str(values["profile"])), **values}
        except ProfileError as error:
            raise SettingsError(f"profile (RERANKER_PROFILE): {error}") from None
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(e) for e in error.errors())) from None


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    env = next((e for e, f in ENV_NAMES.items() if error["loc"] and f == error["loc"][0]), None)
    name = f"{where} ({env})" if env else where
    if error["type"] == "extra_forbidden":
        return f"{where} is not a setting. Known: {', '.join(sorted(Settings.model_fields))}"
    message = str(error["msg"]).removeprefix("Value error, ")
    # An entry as a whole may hold such a setting too.
    if not _SECRET.isdisjoint(error["loc"]) or isinstance(error["input"], Mapping):
        return f"{name}: {message}"
    return f"{name}: {message}, got {error['input']!r}" if name else message


def table() -> str:
    """The settings as a Markdown document."""
    rows = [
        "# Settings",
        "",
        "Made from the code by `make docs`. Flags of `rerank up` win over the arguments of",
        "`serve_config.yaml`, which win over the environment, which wins over a profile.",
        "",
        "| environment | argument | default | what it does |",
        "|---|---|---|---|",
    ]
    for env, name in ENV_NAMES.items():
        field = Settings.model_fields[name]
        shown = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        default = "" if shown in (None, "", {}) else f"`{shown}`"
        rows.append(f"| `{env}` | `{name}` | {default} | {field.description} |")
    remote = [name for name in ModelFields.model_fields if name not in (*SHARED, *PIPELINE)]
    every = (*SHARED, *remote, *PIPELINE)
    local = [name for name in ModelSettings.model_fields if name not in every]
    for which, names in (
        ("Each entry of `models` takes", SHARED),
        ("One of a local model takes beside them", local),
        ("One that names a provider (docs/providers.md)", remote),
        ("A pipeline (docs/pipelines.md) takes alone", PIPELINE),
    ):
        rows += ["", f"{which}: " + ", ".join(f"`{name}`" for name in names) + "."]
    return "\n".join(rows)
