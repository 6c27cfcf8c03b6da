"""Token rows through OpenVINO on a CPU, converted straight from the torch module."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version as version_of
from importlib.util import find_spec
from types import ModuleType
from typing import Any, cast

import torch

from models.engines import int8
from models.engines.base import (
    CHECKED_TOKENS,
    TOLERANCE,
    Engine,
    EngineError,
    EngineRequest,
    Forward,
    difference,
    pad,
)
from models.engines.conversions import Conversions
from models.engines.torch_engine import choose_device
from models.types import ModelLoadError, TokenRow

TITLE = "OpenVINO"
# Smaller than torch's, so that a micro-batch's activations stay in the CPU's cache.
TOKEN_BUDGET = 1024
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def installed() -> bool:
    return find_spec("openvino") is not None


def needed_for(request: EngineRequest) -> str | None:
    """Multiplication in int8."""
    if request.checkpoint.spec.dtype == "int8":
        return "only OpenVINO runs int8; see RERANKER_QUANTIZATION"
    return None


def why_not(request: EngineRequest) -> str | None:
    """What is missing: an encoder, the CPU, a precision, a library."""
    spec = request.checkpoint.spec
    if not request.portable:
        return "it runs only encoders"
    if choose_device(spec.device).type != "cpu":
        return "it runs only on cpu; see RERANKER_DEVICE"
    if spec.dtype not in ("auto", "int8", *PRECISIONS):
        return f"it has no {spec.dtype}; see RERANKER_QUANTIZATION"
    if spec.compile:
        return "ENABLE_TORCH_COMPILE asks for torch"
    if not installed():
        extra = "int8" if spec.dtype == "int8" else "openvino"
        return f"it is not installed: pip install 'rerank-serve[{extra}]'"
    if spec.dtype == "int8" and not int8.installed():
        return "NNCF is not installed: pip install 'rerank-serve[int8]'"
    return None


def build(request: EngineRequest) -> Engine:
    """Convert the module, or read a kept conversion.

    Raises ModelLoadError if torch cannot load the module either, and EngineError if the
    conversion fails or gives other answers than torch.
    """
    try:
        return OpenVINOEngine(request)
    except ModelLoadError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise EngineError(f"it could not be converted: {reason}") from error


class OpenVINOEngine(Engine):
    """Runs modules that have no cache of keys and values; shapes stay dynamic."""

    name = "openvino"
    device = "cpu"

    def __init__(self, request: EngineRequest) -> None:
        """Raises RuntimeError if the answers differ from torch's."""
        # Otherwise the conversion would be reported to a third party.
        sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))
        import openvino

        spec = request.checkpoint.spec
        self._core = openvino.Core()
        capabilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        # What is not multiplied in int8 runs in bfloat16 if the CPU has it.
        fast = "bfloat16" if "BF16" in capabilities else "float32"
        self.dtype = fast if spec.dtype == "auto" else spec.dtype
        self.token_budget = spec.token_budget or TOKEN_BUDGET
        self.pad_token_id = request.pad_token_id
        self.max_rows = spec.batch_size
        self.typed = request.typed
        self._output = request.output
        self._options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[fast if self.dtype == "int8" else self.dtype],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            # Otherwise every process pins its threads to the same first cores.
            "ENABLE_CPU_PINNING": "NO",
        }
        if spec.threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = str(spec.threads)
        # Code that comes with a checkpoint is not part of its version.
        if not spec.conversions or spec.trust_remote_code:
            self._convert(request)
            return
        kept = Conversions(spec.conversions)
        libraries = [openvino.__version__, torch.__version__, version_of("transformers")]
        key = Conversions.key(
            {
                "version": request.checkpoint.version,
                "output": self._output,
                "typed": self.typed,
                "dtype": self.dtype,
                "processor": sorted(capabilities),
                "libraries": libraries,
            }
        )
        # A kept conversion was compared with torch before it was written.
        if not kept.read(key, self._compile):
            model = self._convert(request)
            kept.write(key, partial(openvino.save_model, model, compress_to_fp16=False))

    def _convert(self, request: EngineRequest) -> Any:
        """Convert, compile and check the module; return the converted model."""
        names = ["input_ids", "attention_mask"] + (["token_type_ids"] if self.typed else [])
        module = _Positional(request.make().float().eval(), names, self._output)
        model = _traced(module, names)
        if self.dtype == "int8":
            rows = int8.calibration_rows(request.checkpoint.tokenizer)
            model = int8.quantize(model, rows, self.pad_token_id)
        self._compile(model)
        self._check(module, min(request.longest, CHECKED_TOKENS))
        return model

    def _compile(self, model: Any) -> bool:
        """Prepare inference with a converted model, or with the one in a file."""
        compiled = self._core.compile_model(model, "CPU", self._options)
        self._request = compiled.create_infer_request()
        return True

    def _check(self, module: torch.nn.Module, longest: int) -> None:
        """Compare with torch on a short row beside a long one, where padding matters."""
        ids = [7 + i % 11 for i in range(longest)]
        rows = [TokenRow(ids[:n], [0] * n if self.typed else None) for n in (4, longest)]
        inputs = pad(rows, self.pad_token_id).arrays
        with torch.inference_mode():
            answer = module(*map(torch.from_numpy, inputs))
            expected = answer if self._output == "logits" else answer[:, :4]
        found = torch.from_numpy(self._request.infer(inputs)[0].copy()).float()
        found = found if self._output == "logits" else found[:, :4]
        error = difference(found, expected)
        if not error < TOLERANCE[self.dtype]:
            raise RuntimeError(f"its answers differ from torch's by {error:.1%}")

    def _prepare(self, prefix: Sequence[int]) -> Forward:
        if prefix:
            raise ValueError("the OpenVINO engine supports no prefix")
        return self._run

    def _run(self, rows: Sequence[TokenRow]) -> list[torch.Tensor]:
        batch = pad(rows, self.pad_token_id)
        # Copied, because the next batch overwrites the request's memory.
        values = torch.from_numpy(self._request.infer(batch.arrays)[0].copy()).float()
        if self._output == "logits":
            return list(values)
        return [values[i, : len(row)] for i, row in enumerate(rows)]


def _traced(module: torch.nn.Module, names: Sequence[str]) -> Any:
    import openvino

    example = tuple(torch.ones((2, 16), dtype=torch.long) for _ in names)
    with torch.inference_mode(), warnings.catch_warnings():
        # Tracing warns of branches that do not depend on the input.
        warnings.simplefilter("ignore")
        model = openvino.convert_model(module, example_input=example)
    for given, name in zip(model.inputs, names, strict=True):
        given.get_tensor().set_names({name})
    return model


class _Positional(torch.nn.Module):
    """The module with positional inputs and a single tensor as its output."""

    def __init__(self, module: Any, names: Sequence[str], output: str) -> None:
        super().__init__()
        self.module = module
        self.names, self.output = list(names), output

    def forward(self, *inputs: torch.Tensor) -> Any:
        answer = self.module(**dict(zip(self.names, inputs, strict=True)))
        return getattr(answer, self.output)
