"""How local models run: device, engine, precision, lengths, prompts, micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from models.revision import cache_folder
from models.types import Backend, LongDocument, Precision
from serve_app.settings.base import Frozen, setting

Device = Literal["auto", "cuda", "mps", "mlx", "cpu"]
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


def _absolute(value: str) -> str:
    # The replica that uses the folder runs in another one.
    return value if value in ("auto", "none") else str(Path(value).expanduser().absolute())


ConversionsFolder = Annotated[str, AfterValidator(_absolute)]


class InferenceSettings(Frozen):
    """How local models run (docs/models.md). An entry of `models` can override many of these."""

    device: Device = setting(
        "RERANKER_DEVICE",
        "auto",
        "Device that models run on. `auto`: the first available of cuda, mps and cpu; `mlx`: "
        "MLX's preferred device.",
    )
    backend: Backend = setting(
        "RERANKER_BACKEND",
        "auto",
        "Engine for the forward pass. `auto`: mlx on Apple Silicon and openvino for encoders on a "
        "CPU, where installed; otherwise torch.",
    )
    use_mlx: bool = setting("RERANKER_USE_MLX", False, "If true, the same as RERANKER_BACKEND=mlx.")
    quantization: Quantization = setting(
        "RERANKER_QUANTIZATION",
        "auto",
        "Precision. `auto`: bf16 if the hardware has instructions for it; `8bit` and `4bit`: "
        "quantized weights, only on MLX.",
    )
    mixed_precision: bool = setting(
        "ENABLE_MIXED_PRECISION", True, "If false, precision `auto` means fp32."
    )
    torch_compile: bool = setting(
        "ENABLE_TORCH_COMPILE", False, "Compile the forward pass with torch.compile."
    )
    max_length: int | None = setting(
        "RERANKER_MAX_LENGTH",
        None,
        "Maximum tokens per query-document pair; unset: the checkpoint's own limit.",
        ge=8,
    )
    max_tokens_per_doc: int | None = setting(
        "RERANKER_MAX_TOKENS_PER_DOC",
        None,
        "Maximum tokens scored per document; unset: no limit.",
        ge=1,
    )
    long_document: LongDocument = setting(
        "RERANKER_LONG_DOCUMENT",
        "truncate",
        "What to do with a document that is longer than the model reads. `truncate`: score its "
        "beginning; `max_passage`: score overlapping passages and take the highest score.",
    )
    normalize_text: bool | None = setting(
        "RERANKER_NORMALIZE_TEXT",
        None,
        "Normalize texts to NFC and clean up control characters and whitespace; unset: depends on "
        "the model.",
    )
    family: str = setting(
        "RERANKER_FAMILY",
        "auto",
        "Model family (docs/models.md). `auto`: from the checkpoint's config.",
    )
    template: str = setting(
        "RERANKER_TEMPLATE",
        "auto",
        "Prompt template of a decoder (docs/models.md). `auto`: from the checkpoint.",
    )
    instruction: str | None = setting(
        "RERANKER_INSTRUCTION",
        None,
        "Task instruction for models with a prompt; unset: the template's default.",
    )
    batch_size: int | None = setting(
        "RERANKER_BATCH_SIZE",
        None,
        "Maximum rows per micro-batch; unset: only the token budget limits it.",
        ge=1,
    )
    token_budget: int | None = setting(
        "RERANKER_TOKEN_BUDGET",
        None,
        "Maximum tokens per micro-batch, including padding; unset: the fastest budget, found "
        "during warm-up.",
        ge=64,
    )
    micro_batch: bool = setting(
        "MICRO_BATCH_ENABLED", True, "Merge chunks of different requests into one forward pass."
    )
    micro_batch_window_ms: float = setting(
        "MICRO_BATCH_WINDOW_MS",
        0.0,
        "Milliseconds to wait for more chunks before a forward pass.",
        ge=0,
        le=1000,
    )
    warmup: bool = setting(
        "WARMUP_ON_START", True, "Run a forward pass before a replica reports that it is ready."
    )
    conversions: ConversionsFolder = setting(
        "RERANKER_CONVERSIONS",
        "auto",
        "Folder for models converted to OpenVINO, which makes later starts faster. `auto`: "
        "rerank-serve/openvino in the user's cache folder; `none`: do not store them.",
    )

    @model_validator(mode="after")
    def _use_mlx_agrees_with_backend(self) -> InferenceSettings:
        if self.use_mlx and self.backend not in ("auto", "mlx"):
            raise ValueError(
                f"RERANKER_USE_MLX and RERANKER_BACKEND={self.backend} contradict each other"
            )
        return self

    @property
    def engine(self) -> Backend:
        """The backend that both settings for it ask for."""
        return "mlx" if self.use_mlx else self.backend

    @property
    def conversions_folder(self) -> str | None:
        """Where converted models are stored, by the XDG convention; None for nowhere."""
        if self.conversions == "none":
            return None
        if self.conversions != "auto":
            return self.conversions
        try:
            return str(cache_folder() / "openvino")
        except RuntimeError:  # no home folder
            return None
