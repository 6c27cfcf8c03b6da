"""Token rows through MLX, Apple's array library: on Apple's GPUs, or on its CPU build for Linux.

Nothing here imports MLX before `why_not` has checked that it is installed.
"""

from __future__ import annotations

import platform
import sys
from importlib.util import find_spec

from models.engines.base import Engine, EngineError, EngineRequest
from models.engines.mlx.architectures import (
    ARCHITECTURES,
    BITS,
    architecture,
    quantization_of,
)

TITLE = "MLX"
DEVICES = ("auto", "mlx", "mps", "cpu")


def installed() -> bool:
    return find_spec("mlx") is not None


def apple_silicon() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"


def needed_for(request: EngineRequest) -> str | None:
    """Weights that MLX quantized, the device `mlx`, and weights of 8 or 4 bits."""
    spec = request.checkpoint.spec
    if quantization_of(request.checkpoint) is not None:
        return "its weights were quantized by MLX, and only MLX reads them"
    if spec.device == "mlx":
        return "only MLX runs on the device 'mlx'; see RERANKER_DEVICE"
    if spec.dtype in BITS:
        return f"only MLX runs {spec.dtype}; see RERANKER_QUANTIZATION"
    return None


def why_not(request: EngineRequest) -> str | None:
    """What stands in the way. `auto` takes MLX only on the GPU of Apple silicon."""
    checkpoint = request.checkpoint
    spec, config = checkpoint.spec, checkpoint.config
    _, outputs = ARCHITECTURES.get(checkpoint.model_type, ("", ()))
    given = quantization_of(checkpoint)
    asked_for = spec.backend == "mlx" or spec.device == "mlx" or given is not None
    if not asked_for and not (apple_silicon() and spec.device != "cpu"):
        return "RERANKER_BACKEND=auto takes it only on an Apple GPU; set RERANKER_BACKEND=mlx"
    if request.output not in outputs:
        known = ", ".join(ARCHITECTURES)
        return f"it runs {known}, but not {checkpoint.model_type!r} in this family"
    if spec.trust_remote_code and getattr(config, "auto_map", None):
        return "the checkpoint has its own code"
    if spec.device not in DEVICES:
        return f"its devices are {', '.join(DEVICES)}; see RERANKER_DEVICE"
    if spec.compile:
        return "ENABLE_TORCH_COMPILE asks for torch"
    if spec.dtype == "int8":
        return "it has no int8; see RERANKER_QUANTIZATION"
    if given is not None and BITS.get(spec.dtype, given["bits"]) != given["bits"]:
        return f"its weights have {given['bits']} bits already; see RERANKER_QUANTIZATION"
    if not installed():
        return "it is not installed: pip install 'rerank-serve[mlx]'"
    try:
        unsupported: str | None = architecture(checkpoint).unsupported(config)
    except ImportError as error:  # on Linux its library is a separate package
        return f"it can't be imported ({error}): pip install 'rerank-serve[mlx]'"
    return unsupported


def build(request: EngineRequest) -> Engine:
    """Load the weights. Every failure is an EngineError: torch may know other names of weights."""
    from models.engines.mlx.engine import MLXEngine

    try:
        return MLXEngine(request)
    except Exception as error:
        raise EngineError(" ".join(str(error).split())[:300]) from error
