"""Token rows through a torch module, on cpu, cuda or mps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from models.engines.base import Engine, Forward, pad
from models.types import ModelLoadError, ModelSpec, TokenRow

# Keys and values of each layer, [1, heads, tokens, head size].
Past = list[tuple[torch.Tensor, torch.Tensor]]

DEFAULT_BUDGET = {"cpu": 2048, "mps": 8192, "cuda": 65536}


def choose_device(wanted: str) -> torch.device:
    """`auto` is cuda, then mps, then cpu. Raises ModelLoadError for a device that is not here."""
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
            f"the device {wanted!r} is not available here; RERANKER_DEVICE may be auto, "
            f"{', '.join(here)}"
        )
    return torch.device(wanted)


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies it, float16 on mps, else float32."""
    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if device.type == "mps":
        return torch.float16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if _cpu_multiplies_bf16() else torch.float32


def _cpu_multiplies_bf16() -> bool:
    # The probes are private to torch and not in every build.
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in probes)


class TorchEngine(Engine):
    """Runs rows through a torch module. `types` is the module's name for a row's `type_ids`."""

    name = "torch"

    def __init__(
        self,
        module: Any,
        spec: ModelSpec,
        *,
        pad_token_id: int,
        output: str,
        types: str = "token_type_ids",
        typed: bool = False,
    ) -> None:
        if spec.threads is not None:
            torch.set_num_threads(spec.threads)
        self._device = choose_device(spec.device)
        dtype = choose_dtype(spec.dtype, self._device)
        self.device = str(self._device)
        self.dtype = str(dtype).removeprefix("torch.")
        self.token_budget = spec.token_budget or DEFAULT_BUDGET[self._device.type]
        self.pad_token_id = pad_token_id
        self.max_rows = spec.batch_size
        self._output = output
        self._types = types
        self.typed = typed
        module = module.to(device=self._device, dtype=dtype).eval()
        self._module: Callable[..., Any] = torch.compile(module) if spec.compile else module

    def _prepare(self, prefix: Sequence[int]) -> Forward:
        return partial(self._run, self._prefill(prefix) if prefix else None)

    @torch.inference_mode()
    def _prefill(self, prefix: Sequence[int]) -> Past:
        from transformers import DynamicCache

        cache = DynamicCache()
        self._module(
            input_ids=torch.tensor([list(prefix)], device=self._device),
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
        if past is not None:
            before = torch.ones((len(rows), past[0][0].shape[2]), dtype=torch.long)
            inputs["attention_mask"] = torch.cat([before, mask], dim=1)
            more = {"past_key_values": _repeat(past, len(rows)), "use_cache": True}
        answer = self._module(**{name: t.to(self._device) for name, t in inputs.items()}, **more)
        return self._read(answer, rows)

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
    """A cache in which every row has the prefix's keys and values; views, until it grows."""
    from transformers import DynamicCache

    return DynamicCache([(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)) for k, v in past])
