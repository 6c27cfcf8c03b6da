"""How a forward pass runs: the choice of an engine for a checkpoint's module."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from models.checkpoint import Checkpoint
from models.engines import int8, mlx, openvino_engine
from models.engines.base import CHECKED_TOKENS, Engine
from models.engines.torch_engine import TorchEngine, choose_device
from models.families.lengths import position_limit
from models.types import ModelLoadError

__all__ = ["Engine", "engine_for"]

logger = logging.getLogger(__name__)


def engine_for(
    checkpoint: Checkpoint,
    make: Callable[[], Any],
    output: str,
    *,
    types: str = "token_type_ids",
    portable: bool = False,
) -> Engine:
    """The engine that the spec's `backend` names.

    `make` gives the torch module; MLX reads the weights by itself, and does not call it. `auto` is
    MLX on Apple Silicon, OpenVINO on a processor where the module is `portable` (an encoder: no
    cache of keys and values, no images), each where it is installed and has the architecture, else
    torch. Raises ModelLoadError where the named one can't run it.
    """
    spec = checkpoint.spec
    typed = types != "token_type_ids" or types in checkpoint.tokenizer.model_input_names
    # A tokenizer may lack a pad token; what is padded is masked.
    pads = (checkpoint.tokenizer.pad_token_id, getattr(checkpoint.config, "pad_token_id", None))
    pad = next((int(pad) for pad in pads if isinstance(pad, int) and pad >= 0), 0)
    found = _mlx_engine(checkpoint, output, pad, typed)
    if found is not None:
        return found
    make = cache(make)
    reason = _why_not_openvino(checkpoint, portable)
    only = spec.backend == "openvino" or spec.dtype == "int8"
    if only and reason is not None:
        raise ModelLoadError(f"{spec.source!r} can't run on OpenVINO: {reason}")
    longest = position_limit(checkpoint.config) or CHECKED_TOKENS
    if spec.backend != "torch" and reason is None:
        try:
            return openvino_engine.OpenVINOEngine(
                spec,
                make,
                pad_token_id=pad,
                output=output,
                typed=typed,
                longest=longest,
                calibration=partial(int8.calibration_rows, checkpoint.tokenizer),
                # Code that comes with a checkpoint is not part of its version.
                version=None if spec.trust_remote_code else checkpoint.version,
            )
        except ModelLoadError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            if only:
                raise ModelLoadError(
                    f"{spec.source!r} could not be converted for OpenVINO: {text}; "
                    "try RERANKER_BACKEND=torch"
                ) from error
            logger.warning("%s stays on torch, OpenVINO can't take it: %s", spec.name, text)
    return TorchEngine(
        make(),
        spec,
        pad_token_id=pad,
        output=output,
        types=types,
        typed=typed,
        longest=longest,
    )


def _mlx_engine(checkpoint: Checkpoint, output: str, pad: int, typed: bool) -> Engine | None:
    """MLX where the spec or the weights call for it, or where it is the fastest here."""
    spec = checkpoint.spec
    quantized = mlx.quantization_of(checkpoint) is not None
    if quantized and spec.backend not in ("auto", "mlx"):
        raise ModelLoadError(
            f"{spec.source!r} has weights that MLX quantized, which {spec.backend} can't read; "
            "set RERANKER_BACKEND=mlx"
        )
    named = spec.backend == "mlx" or (spec.backend == "auto" and spec.device == "mlx")
    usual = spec.backend == "auto" and spec.device != "cpu" and mlx.apple_silicon()
    usual = usual and spec.dtype != "int8"
    if not (named or quantized or usual):
        if spec.dtype in mlx.BITS:
            raise ModelLoadError(
                f"{spec.source!r} can be run in {spec.dtype} on MLX alone; set "
                "RERANKER_BACKEND=mlx, or another RERANKER_QUANTIZATION"
            )
        return None
    reason = mlx.why_not(checkpoint, output)
    cause: Exception | None = None
    if reason is None:
        from models.engines.mlx.engine import MLXEngine

        try:
            return MLXEngine(checkpoint, pad_token_id=pad, output=output, typed=typed)
        except Exception as error:
            cause, reason = error, " ".join(str(error).split())[:300]
            if not (named or quantized):
                logger.warning("%s is not run on MLX: %s", spec.name, reason)
    if named or quantized or spec.dtype in mlx.BITS:
        raise ModelLoadError(f"{spec.source!r} can't run on MLX: {reason}") from cause
    return None


def _why_not_openvino(checkpoint: Checkpoint, portable: bool) -> str | None:
    spec = checkpoint.spec
    if spec.dtype == "int8" and spec.backend == "torch":
        return "int8 needs it, and RERANKER_BACKEND asks for torch"
    if not portable:
        return "only encoders do"
    if choose_device(spec.device).type != "cpu":
        return "it runs on cpu only; see RERANKER_DEVICE"
    if spec.dtype not in ("auto", "int8", *openvino_engine.PRECISIONS):
        return f"it has no {spec.dtype}; see RERANKER_QUANTIZATION"
    if spec.compile:
        return "ENABLE_TORCH_COMPILE asks for torch"
    if not openvino_engine.installed():
        extra = "int8" if spec.dtype == "int8" else "openvino"
        return f"it is not installed: pip install 'rerank-serve[{extra}]'"
    if spec.dtype == "int8" and not int8.installed():
        return "NNCF is not installed: pip install 'rerank-serve[int8]'"
    return None
