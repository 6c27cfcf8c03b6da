"""Token rows through an MLX module."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import torch

from models.engines.base import Engine, EngineRequest, Forward, pad
from models.engines.mlx.architectures import BITS, architecture, is_decoder, quantization_of
from models.engines.mlx.weights import fill, head_rows
from models.types import ModelLoadError, TokenRow

DEFAULT_BUDGET = {"cpu": 1024, "gpu": 8192}
# Maximum of freed memory that MLX keeps for later arrays. Micro-batches have many shapes, and by
# default the kept memory may grow to fill the machine.
CACHE_BYTES = 2**30


class MLXEngine(Engine):
    """Reads the checkpoint itself, so that its weights are not loaded by torch."""

    name = "mlx"

    def __init__(self, request: EngineRequest) -> None:
        checkpoint = request.checkpoint
        spec, config = checkpoint.spec, checkpoint.config
        self._device = _choose_device(spec.device)
        self.device = "cpu" if self._device == mx.cpu else "gpu"
        self.token_budget = spec.token_budget or DEFAULT_BUDGET[self.device]
        self.pad_token_id = request.pad_token_id
        self.max_rows = spec.batch_size
        self.typed = request.typed
        self._output = request.output
        self._checkpoint = checkpoint
        self._vocabulary = int(config.vocab_size)
        self._decoder = is_decoder(checkpoint)
        given = quantization_of(checkpoint)
        bits = int(given["bits"]) if given is not None else BITS.get(spec.dtype)
        floats = _choose_dtype(spec.dtype, self.device, decoder=self._decoder)
        self.dtype = f"{bits}bit" if bits is not None else floats
        mx.set_cache_limit(CACHE_BYTES)
        with mx.stream(self._device):
            self._module = architecture(checkpoint).build(config, request.output)
            fill(self._module, checkpoint, getattr(mx, floats), bits)

    def head(self, rows: Sequence[int]) -> torch.Tensor:
        with mx.stream(self._device):
            return head_rows(self._checkpoint, rows)

    def _free(self) -> None:
        mx.clear_cache()
        super()._free()

    def _prepare(self, prefix: Sequence[int]) -> Forward:
        if not prefix:
            return partial(self._run, None)
        if not self._decoder:
            raise ValueError("an encoder supports no prefix")
        self._check(np.array(prefix))
        with mx.stream(self._device):
            return partial(self._run, self._module.prefill(prefix))

    def _run(self, past: Any, rows: Sequence[TokenRow]) -> list[torch.Tensor]:
        batch = pad(rows, self.pad_token_id)
        self._check(batch.ids)
        # A stream belongs to a thread, and the model may have been loaded in another one.
        with mx.stream(self._device):
            ids = mx.array(batch.ids.astype(np.int32))
            mask = mx.array(batch.mask.astype(np.bool_))
            types = None if batch.types is None else mx.array(batch.types.astype(np.int32))
            if not self._decoder:
                return self._read(self._module(ids, mask, types), rows)
            whole = all(row.attended is None for row in rows)
            return self._read(self._module(ids, None if whole else mask, past), rows)

    def _read(self, found: mx.array, rows: Sequence[TokenRow]) -> list[torch.Tensor]:
        if self._output == "last_token":
            found = found[mx.arange(len(rows)), mx.array([len(row) - 1 for row in rows])]
        elif self._output != "logits" and rows[0].read is not None:
            parts = [found[i, mx.array(list(row.read or ()))] for i, row in enumerate(rows)]
            return [torch.from_numpy(np.array(part.astype(mx.float32))) for part in parts]
        values = torch.from_numpy(np.array(found.astype(mx.float32)))
        if self._output == "last_hidden_state":
            return [values[i, : len(row)] for i, row in enumerate(rows)]
        return list(values)

    def _check(self, ids: Any) -> None:
        # MLX reads beyond the end of an array without an error.
        if ids.max() >= self._vocabulary:
            raise ValueError(
                f"token {ids.max()} is outside the model's vocabulary of {self._vocabulary}"
            )


def _choose_device(wanted: str) -> mx.Device:
    if wanted == "cpu":
        return mx.Device(mx.cpu)
    if wanted == "mps" and not mx.metal.is_available():
        raise ModelLoadError("MLX has no Metal here; set RERANKER_DEVICE to auto, mlx or cpu")
    return mx.default_device()


def _choose_dtype(wanted: str, device: str, *, decoder: bool) -> str:
    """The dtype to compute in. `auto` on a GPU is float16, or bfloat16 for a decoder's range."""
    if wanted not in ("auto", *BITS):
        return wanted
    if device == "cpu":
        return "float32"
    return "bfloat16" if decoder else "float16"
