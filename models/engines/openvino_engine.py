"""Token rows through OpenVINO on a processor, converted straight from the torch module."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version as version_of
from importlib.util import find_spec
from types import ModuleType
from typing import Any, cast

import torch

from models.engines import int8
from models.engines.base import CHECKED_TOKENS, TOLERANCE, Engine, Forward, difference, pad
from models.engines.conversions import Conversions
from models.types import ModelSpec, TokenRow

# Smaller than torch's: the activations of a micro-batch stay in the processor's cache.
TOKEN_BUDGET = 1024
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def installed() -> bool:
    return find_spec("openvino") is not None


class OpenVINOEngine(Engine):
    """For modules without a cache of keys and values; shapes stay dynamic."""

    name = "openvino"
    device = "cpu"

    def __init__(
        self,
        spec: ModelSpec,
        make: Callable[[], Any],
        *,
        pad_token_id: int,
        output: str,
        typed: bool,
        longest: int,
        calibration: Callable[[], Sequence[TokenRow]] = list,
        version: str | None = None,
    ) -> None:
        """`make` gives the torch module, where no conversion of this `version` (what tells one
        version of the weights from another) is kept in the spec's folder. `longest`: tokens that
        a row may have. `calibration`: what int8's ranges are taken from.

        Raises RuntimeError where answers differ from torch's.
        """
        # Without it the conversion is not reported to a third party.
        sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))
        import openvino

        self._core = openvino.Core()
        capabilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        # What is not multiplied in int8 runs in bfloat16 where the processor has it.
        fast = "bfloat16" if "BF16" in capabilities else "float32"
        self.dtype = fast if spec.dtype == "auto" else spec.dtype
        self.token_budget = spec.token_budget or TOKEN_BUDGET
        self.pad_token_id = pad_token_id
        self.max_rows = spec.batch_size
        self._output = output
        self.typed = typed
        self._options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[fast if self.dtype == "int8" else self.dtype],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            # Else every process binds its threads to the same first cores.
            "ENABLE_CPU_PINNING": "NO",
        }
        if spec.threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = str(spec.threads)
        names = ["input_ids", "attention_mask"] + (["token_type_ids"] if typed else [])

        def convert() -> Any:
            wrapped = _Positional(make().float().eval(), names, output)
            model = _convert(wrapped, names)
            if self.dtype == "int8":
                model = int8.quantize(model, calibration(), pad_token_id)
            self._compile(model)
            self._check(wrapped, typed, min(longest, CHECKED_TOKENS))
            return model

        if not spec.conversions or not version:
            convert()
            return
        kept = Conversions(spec.conversions)
        libraries = [openvino.__version__, torch.__version__, version_of("transformers")]
        key = Conversions.key(
            {
                "version": version,
                "output": output,
                "typed": typed,
                "dtype": self.dtype,
                "processor": sorted(capabilities),
                "libraries": libraries,
            }
        )
        # What is kept was compared with torch before it was written.
        if not kept.read(key, self._compile):
            kept.write(key, partial(openvino.save_model, convert(), compress_to_fp16=False))

    def _compile(self, model: Any) -> bool:
        """Make the request that runs a converted model, or the one in a file."""
        compiled = self._core.compile_model(model, "CPU", self._options)
        self._request = compiled.create_infer_request()
        return True

    def _check(self, module: torch.nn.Module, typed: bool, longest: int) -> None:
        """Compare with torch on a short row beside a long one, where padding shows."""
        ids = [7 + i % 11 for i in range(longest)]
        rows = [TokenRow(ids[:n], [0] * n if typed else None) for n in (4, longest)]
        batch = pad(rows, self.pad_token_id)
        inputs = batch.arrays
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
            raise ValueError("the OpenVINO engine keeps no prefix")
        return self._run

    def _run(self, rows: Sequence[TokenRow]) -> list[torch.Tensor]:
        batch = pad(rows, self.pad_token_id)
        # The request's memory is used again by the next batch.
        values = torch.from_numpy(self._request.infer(batch.arrays)[0].copy()).float()
        if self._output == "logits":
            return list(values)
        return [values[i, : len(row)] for i, row in enumerate(rows)]


def _convert(module: torch.nn.Module, names: Sequence[str]) -> Any:
    import openvino

    example = tuple(torch.ones((2, 16), dtype=torch.long) for _ in names)
    with torch.inference_mode(), warnings.catch_warnings():
        # Tracing warns of branches that do not depend on the texts.
        warnings.simplefilter("ignore")
        model = openvino.convert_model(module, example_input=example)
    for given, name in zip(model.inputs, names, strict=True):
        given.get_tensor().set_names({name})
    return model


class _Positional(torch.nn.Module):
    """The module with its inputs by place, and one tensor for its answer."""

    def __init__(self, module: Any, names: Sequence[str], output: str) -> None:
        super().__init__()
        self.module = module
        self.names, self.output = list(names), output

    def forward(self, *inputs: torch.Tensor) -> Any:
        answer = self.module(**dict(zip(self.names, inputs, strict=True)))
        return getattr(answer, self.output)
