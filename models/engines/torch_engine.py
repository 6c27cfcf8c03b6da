"""Token rows through a torch module, on cpu, cuda or mps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from models.engines.base import (
    CHECKED_TOKENS,
    TOLERANCE,
    Engine,
    EngineRequest,
    Forward,
    difference,
    pad,
)
from models.engines.packing import Packing, Past, pack, unpack
from models.types import ModelLoadError, TokenRow

logger = logging.getLogger("ray.serve")
# As base.TOLERANCE, for packed rows in float32.
PACKED_TOLERANCE = 1e-4
DEFAULT_BUDGET = {"cpu": 2048, "mps": 8192, "cuda": 65536}
TITLE = "torch"


def needed_for(request: EngineRequest) -> str | None:
    """None: nothing needs torch."""
    return None


def why_not(request: EngineRequest) -> str | None:
    """None: torch runs every checkpoint that a family reads."""
    return None


def build(request: EngineRequest) -> Engine:
    """Load the module. Its errors are the checkpoint's, since no other engine is left to try."""
    return TorchEngine(request)


def choose_device(wanted: str) -> torch.device:
    """`auto` takes cuda, then mps, then cpu. Raises ModelLoadError for an absent device."""
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return torch.device(next(name for name, here in present.items() if here))
    if not present.get(wanted.split(":")[0], False):
        here = [name for name, is_here in present.items() if is_here]
        raise ModelLoadError(
            f"the device {wanted!r} is not available here; set RERANKER_DEVICE to auto or "
            f"{' or '.join(here)}"
        )
    return torch.device(wanted)


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The dtype to compute in.

    `auto` is float16 on mps, otherwise bfloat16 if the hardware multiplies it; if not, float16 on
    cuda and float32 on cpu.
    """
    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if device.type == "mps":
        return torch.float16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if _cpu_multiplies_bf16() else torch.float32


def _cpu_multiplies_bf16() -> bool:
    # These functions are private to torch and missing from some builds.
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in probes)


class TorchEngine(Engine):
    """Runs rows through a torch module.

    Rows are packed end to end if the module's attention allows it, otherwise padded.
    """

    name = "torch"

    def __init__(self, request: EngineRequest) -> None:
        spec, module = request.checkpoint.spec, request.make()
        if spec.threads is not None:
            torch.set_num_threads(spec.threads)
        device = choose_device(spec.device)
        dtype = choose_dtype(spec.dtype, device)
        self.device = str(device)
        self.dtype = str(dtype).removeprefix("torch.")
        self.token_budget = spec.token_budget or DEFAULT_BUDGET[device.type]
        self.pad_token_id = request.pad_token_id
        self.max_rows = spec.batch_size
        self._output = request.output
        self._types = request.types
        self.typed = request.typed
        self._module: Any = module.eval()
        if not spec.compile and self._may_pack(module):
            # Checked in float32, as loaded: lower precision would hide small mistakes.
            self._device = torch.device("cpu")
            self._pack(request.longest, PACKED_TOLERANCE)
        self._device = device
        self._module = self._module.to(device=device, dtype=dtype)
        if self.packs and device.type == "cuda":
            self._pack(request.longest, TOLERANCE[self.dtype])
        if spec.compile:
            self._module = torch.compile(self._module, dynamic=True)

    def _may_pack(self, module: Any) -> bool:
        """On cuda only in half precision, which FlashAttention needs; mps is untested."""
        device = self.device.split(":")[0]
        fast = device == "cpu" or (device == "cuda" and self.dtype in ("bfloat16", "float16"))
        plain = self._types == "token_type_ids"
        return fast and plain and hasattr(module, "set_attn_implementation")

    def _pack(self, longest: int, tolerance: float) -> None:
        """Pack rows from now on, if outputs stay the same as with padded rows."""
        try:
            self._module = pack(self._module)
            off = max(map(self._packing_error, self._checks(longest)))
            if not off < tolerance:
                raise RuntimeError(f"outputs of packed rows differ by {off:.2%}")
            self.packs = True
        except Exception as error:
            self.packs = False
            self._module = unpack(self._module)
            logger.info("rows are padded, not packed: %s", " ".join(str(error).split())[:300])

    def _checks(self, longest: int) -> list[tuple[list[int], list[TokenRow]]]:
        """Prefixes with rows to try: several of one length, and one longer than a window."""
        windows = ("sliding_window", "local_attention")
        windowed = any(getattr(self._module.config, name, None) for name in windows)
        lengths = (min(longest, CHECKED_TOKENS if windowed else 24), 4, 4, 3)
        ids = [7 + i % 11 for i in range(max(lengths))]
        rows = [
            TokenRow(ids[i : i + n], [0] * n if self.typed else None) for i, n in enumerate(lengths)
        ]
        return [([], rows)] + ([([5, 6], rows)] if self._output == "last_token" else [])

    def _packing_error(self, check: tuple[list[int], list[TokenRow]]) -> float:
        prefix, rows = check
        self.packs = False
        expected = self._prepare(prefix)(rows)
        self.packs = True
        return difference(self._prepare(prefix)(rows), expected)

    def _prepare(self, prefix: Sequence[int]) -> Forward:
        return partial(self._run, self._prefill(prefix) if prefix else None)

    @torch.inference_mode()
    def _prefill(self, prefix: Sequence[int]) -> Past:
        from transformers import DynamicCache

        cache = DynamicCache()
        self._module(
            input_ids=torch.tensor([list(prefix)], device=self._device),
            attention_mask=torch.ones((1, len(prefix)), dtype=torch.long, device=self._device),
            past_key_values=cache,
            use_cache=True,
        )
        return [(layer.keys, layer.values) for layer in cache.layers]

    @torch.inference_mode()
    def _run(self, past: Past | None, rows: Sequence[TokenRow]) -> list[torch.Tensor]:
        batch = pad(rows, self.pad_token_id)
        mask = torch.from_numpy(batch.mask)
        inputs = {"input_ids": torch.from_numpy(batch.ids), "attention_mask": mask}
        if batch.types is not None:
            inputs[self._types] = torch.from_numpy(batch.types)
        images = [image for row in rows for image in row.images]
        if images:
            inputs["pixel_values"] = torch.cat([image.pixels for image in images])
            inputs["image_grid_thw"] = torch.tensor([image.grid for image in images])
        more: dict[str, Any] = {}
        packing = None
        if self.packs and all(row.attended is None for row in rows):
            packing = more["packing"] = Packing([len(row) for row in rows], self._device, past)
        elif past is not None:
            before = torch.ones((len(rows), past[0][0].shape[2]), dtype=torch.long)
            inputs["attention_mask"] = torch.cat([before, mask], dim=1)
            more = {"past_key_values": _repeat(past, len(rows)), "use_cache": True}
        answer = self._module(**{name: self._moved(t) for name, t in inputs.items()}, **more)
        if packing is not None and not packing.reached:
            raise RuntimeError("the module does not pass `packing` on to its attention")
        return self._read(answer, rows)

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._device.type != "cuda":
            return tensor.to(self._device)
        # A copy from pinned memory does not wait for earlier work on the GPU.
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def _read(self, answer: Any, rows: Sequence[TokenRow]) -> list[torch.Tensor]:
        if self._output == "logits":
            return list(answer.logits.float().cpu())
        hidden = answer.last_hidden_state
        if self._output == "last_token":
            last = torch.tensor([len(row) - 1 for row in rows], device=self._device)
            return list(hidden[torch.arange(len(rows), device=self._device), last].float().cpu())
        if rows[0].read is not None:
            return [hidden[i, list(row.read or ())].float().cpu() for i, row in enumerate(rows)]
        values = hidden.float().cpu()
        return [values[i, : len(row)] for i, row in enumerate(rows)]


def _repeat(past: Past, rows: int) -> Any:
    """A cache that gives every row the prefix's keys and values, as views."""
    from transformers import DynamicCache

    return DynamicCache([(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)) for k, v in past])
