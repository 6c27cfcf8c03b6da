"""One named model's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from models.types import EMBEDDED, LongDocument, Precision
from serve_app.remote_settings import ModelFields
from serve_app.scaling import ModelScaling

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
