"""All settings, in sections: one frozen object, made once at the start."""

from __future__ import annotations

from pydantic import Field, model_validator

from models.types import EMBEDDED, ModelSpec
from serve_app.settings.access import AccessSettings
from serve_app.settings.base import Frozen, declared
from serve_app.settings.cache import CacheSettings
from serve_app.settings.inference import DTYPES, InferenceSettings
from serve_app.settings.limits import LimitSettings
from serve_app.settings.models import LocalModel, ModelsSettings
from serve_app.settings.observability import ObservabilitySettings
from serve_app.settings.pipelines import check_pipelines
from serve_app.settings.scaling import ScalingSettings
from serve_app.settings.serving import ServingSettings


class Settings(Frozen):
    """The service's settings. `load` (loading.py) makes them from their sources."""

    models: ModelsSettings = Field(default_factory=ModelsSettings)
    inference: InferenceSettings = Field(default_factory=InferenceSettings)
    serving: ServingSettings = Field(default_factory=ServingSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    cache: CacheSettings = Field(default_factory=CacheSettings)
    access: AccessSettings = Field(default_factory=AccessSettings)
    scaling: ScalingSettings = Field(default_factory=ScalingSettings)
    observability: ObservabilitySettings = Field(default_factory=ObservabilitySettings)

    @model_validator(mode="after")
    def _pipelines_can_run(self) -> Settings:
        may_embed = {model.name for model in self.models.local() if self._may_embed(model)}
        check_pipelines(self.models.catalog(), self.models.pipelines(), may_embed)
        return self

    def _may_embed(self, model: LocalModel) -> bool:
        """Whether the model is a bi-encoder, or may be one by its checkpoint."""
        family = self.spec(model).family
        return family == "bi-encoder" or (family == "auto" and model.source != EMBEDDED)

    @model_validator(mode="after")
    def _prices_are_of_models(self) -> Settings:
        names = [model.name for model in self.models.served()]
        if unknown := sorted(self.access.prices.keys() - set(names)):
            raise ValueError(f"prices: {unknown[0]!r} is not one of the models {names}")
        return self

    @model_validator(mode="after")
    def _scaling_is_consistent(self) -> Settings:
        for model in self.models.local():
            if problem := self.scaling.of(model).problem():
                raise ValueError(f"model {model.name!r}: {problem}")
        return self

    def spec(self, model: LocalModel) -> ModelSpec:
        """The model's own settings, completed by those of all models."""
        common = self.inference
        quantization = model.quantization or common.quantization
        if quantization == "auto" and not common.mixed_precision:
            quantization = "fp32"
        normalize = model.normalize_text
        num_cpus = self.scaling.of(model).num_cpus
        return ModelSpec(
            name=model.name,
            source=model.source,
            revision=model.revision,
            device=model.device or common.device,
            backend=model.backend or common.engine,
            dtype=DTYPES[quantization],
            max_length=model.max_length or common.max_length,
            normalize_text=common.normalize_text if normalize is None else normalize,
            trust_remote_code=model.trust_remote_code,
            compile=common.torch_compile,
            token_budget=common.token_budget,
            batch_size=common.batch_size,
            threads=max(1, int(num_cpus)) if num_cpus else None,
            family=model.family if model.family != "auto" else common.family,
            template=model.template if model.template != "auto" else common.template,
            instruction=model.instruction or common.instruction,
            label=model.label,
            layer=model.layer,
            max_tokens_per_doc=model.max_tokens_per_doc or common.max_tokens_per_doc,
            long_document=model.long_document or common.long_document,
            representation_cache_bytes=self.cache.representation_bytes,
            conversions=common.conversions_folder,
        )


DECLARED = tuple(declared(Settings))
