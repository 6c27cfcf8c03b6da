"""Token rows through a torch module, in micro-batches of like length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from models.batching import plan
from models.checkpoint import Checkpoint
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


class TorchEngine:
    """Runs rows through `module`; `output` names what is read of its answer.

    `logits`: one vector of labels for each row. `last_hidden_state`: one vector for each token.
    `last_token`: the hidden state at each row's last token. `types` is the module's name for a
    row's `type_ids`.
    """

    def __init__(
        self,
        module: Any,
        spec: ModelSpec,
        *,
        pad_token_id: int,
        output: str,
        types: str = "token_type_ids",
    ) -> None:
        if spec.threads is not None:
            torch.set_num_threads(spec.threads)
        self.device = choose_device(spec.device)
        self.dtype = choose_dtype(spec.dtype, self.device)
        self.token_budget = spec.token_budget or DEFAULT_BUDGET[self.device.type]
        self.pad_token_id = pad_token_id
        self._max_rows = spec.batch_size
        self._output = output
        self._types = types
        module = module.to(device=self.device, dtype=self.dtype).eval()
        self._module: Callable[..., Any] = torch.compile(module) if spec.compile else module

    @classmethod
    def of(
        cls, checkpoint: Checkpoint, module: Any, output: str, types: str = "token_type_ids"
    ) -> TorchEngine:
        """The engine of a checkpoint's module; a tokenizer may lack a pad token, all is masked."""
        pads = (checkpoint.tokenizer.pad_token_id, getattr(checkpoint.config, "pad_token_id", None))
        pad = next((int(pad) for pad in pads if isinstance(pad, int) and pad >= 0), 0)
        return cls(module, checkpoint.spec, pad_token_id=pad, output=output, types=types)

    def run(self, rows: Sequence[TokenRow], prefix: Sequence[int] = ()) -> list[torch.Tensor]:
        """For each row, in order: logits [labels], or hidden states [tokens, hidden] or [hidden].

        All in float32. `prefix`: token ids that stand before every row of a causal model; its
        keys and values are computed once.
        """
        outputs: list[torch.Tensor] = [torch.empty(0)] * len(rows)
        past = self._prefill(prefix) if prefix else None
        # A row costs its attention to the prefix too.
        lengths = [len(prefix) + len(row) for row in rows]
        for batch in plan(lengths, self.token_budget, self._max_rows):
            for index, output in zip(batch, self._run([rows[i] for i in batch], past), strict=True):
                outputs[index] = output
        return outputs

    def run_once(self, rows: Sequence[TokenRow]) -> list[torch.Tensor]:
        """As `run`; equal rows are run once (chunks of one request share their query)."""
        unique = {(tuple(row.input_ids), row.attended): row for row in rows}
        place = {key: i for i, key in enumerate(unique)}
        outputs = self.run(list(unique.values()))
        return [outputs[place[tuple(row.input_ids), row.attended]] for row in rows]

    @torch.inference_mode()
    def _prefill(self, prefix: Sequence[int]) -> Past:
        from transformers import DynamicCache

        cache = DynamicCache()
        self._module(
            input_ids=torch.tensor([list(prefix)], device=self.device),
            past_key_values=cache,
            use_cache=True,
        )
        return [(layer.keys, layer.values) for layer in cache.layers]

    @torch.inference_mode()
    def _run(self, rows: Sequence[TokenRow], past: Past | None) -> list[torch.Tensor]:
        longest = max(len(row) for row in rows)
        ids = torch.full((len(rows), longest), self.pad_token_id, dtype=torch.long)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        types = torch.zeros((len(rows), longest), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row.input_ids)
            mask[i, : len(row) if row.attended is None else row.attended] = 1
            if row.type_ids is not None:
                types[i, : len(row)] = torch.tensor(row.type_ids)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if rows[0].type_ids is not None:
            inputs[self._types] = types
        images = [image for row in rows for image in row.images]
        if images:
            inputs["pixel_values"] = torch.cat([image.pixels for image in images])
            inputs["image_grid_thw"] = torch.tensor([image.grid for image in images])
        more: dict[str, Any] = {}
        if past is not None:
            before = torch.ones((len(rows), past[0][0].shape[2]), dtype=torch.long)
            inputs["attention_mask"] = torch.cat([before, mask], dim=1)
            more = {"past_key_values": _repeat(past, len(rows)), "use_cache": True}
        answer = self._module(**{name: t.to(self.device) for name, t in inputs.items()}, **more)
        if self._output == "last_token":
            last = torch.tensor([len(row) - 1 for row in rows], device=self.device)
            hidden = answer.last_hidden_state
            return list(hidden[torch.arange(len(rows), device=self.device), last].float().cpu())
        if rows[0].read is not None:
            hidden = answer.last_hidden_state
            return [hidden[i, list(row.read or ())].float().cpu() for i, row in enumerate(rows)]
        values = getattr(answer, self._output).float().cpu()
        if self._output == "logits":
            return list(values)
        return [values[i, : len(row)] for i, row in enumerate(rows)]


def _repeat(past: Past, rows: int) -> Any:
    """A cache in which every row has the prefix's keys and values; views, until it grows."""
    from transformers import DynamicCache

    return DynamicCache([(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)) for k, v in past])
