"""Packs rows end to end into one sequence, without padding, for a transformers module.

Linear layers see each token once; attention gets the rows' boundaries. This works for every module
that uses transformers' attention interface. The engine finds out by comparing with padded rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling

NAME = "rerank_packed"
# Keys and values of each layer, [1, heads, tokens, head size].
Past = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass
class Packing:
    """The positions of rows in the packed sequence.

    `past`: keys and values before each row. `widths`: the number of tokens that each row takes up,
    its length or a few more. `reached`: set once an attention layer has received the packing.
    """

    lengths: Sequence[int]
    device: torch.device
    past: Past | None = None
    widths: Sequence[int] = ()
    reached: bool = False

    def __post_init__(self) -> None:
        # On a CPU one attention call per length costs more than a little padding.
        exact = self.device.type == "cuda"
        self.widths = self.lengths if exact else common_widths(self.lengths)

    @property
    def before(self) -> int:
        """Number of tokens before each row."""
        return self.past[0][0].shape[2] if self.past else 0

    @cached_property
    def places(self) -> torch.Tensor:
        """Each token's index in the flattened padded rows; [tokens]."""
        longest = max(self.lengths)
        parts = [
            torch.arange(i * longest, i * longest + width) for i, width in enumerate(self.widths)
        ]
        return torch.cat(parts).to(self.device)

    @cached_property
    def positions(self) -> torch.Tensor:
        """Each token's position in its row, counted from `before`; [1, tokens]."""
        parts = [torch.arange(self.before, self.before + width) for width in self.widths]
        return torch.cat(parts)[None].to(self.device)

    @cached_property
    def runs(self) -> list[tuple[int, int, int, torch.Tensor | None]]:
        """Runs of rows of the same width: (first token, number of rows, width, mask).

        The mask is [rows, 1, 1, before + width], True for a row's own tokens and False for
        padding; None if there is no padding.
        """
        found, first, row = [], 0, 0
        for width, group in groupby(self.widths):
            count = len(list(group))
            own = torch.tensor(self.lengths[row : row + count]) + self.before
            mask = None
            if int(own.min()) < self.before + width:
                mask = (torch.arange(self.before + width) < own[:, None])[:, None, None]
            found.append((first, count, width, mask))
            first, row = first + count * width, row + count
        return found

    @cached_property
    def query_ends(self) -> torch.Tensor:
        """Cumulative lengths of the rows, from 0; int32 [rows + 1]."""
        return self._ends(0)

    @cached_property
    def key_ends(self) -> torch.Tensor:
        """The same, including the tokens before each row."""
        return self._ends(self.before)

    def _ends(self, more: int) -> torch.Tensor:
        lengths = torch.tensor([0, *(length + more for length in self.lengths)])
        return lengths.cumsum(0).to(self.device, torch.int32)

    @cached_property
    def key_places(self) -> torch.Tensor:
        """Index of each row's keys in the sequence of `past` followed by the packed rows."""
        parts, first = [], self.before
        for length in self.lengths:
            parts += [torch.arange(self.before), torch.arange(first, first + length)]
            first += length
        return torch.cat(parts).to(self.device)


def common_widths(lengths: Sequence[int]) -> list[int]:
    """A width for each row; neighbouring rows of similar length share one."""
    widths: list[int] = []
    for length in lengths:
        last = widths[-1] if widths else 0
        joins = last - max(4, last // 8) <= length <= last
        widths.append(last if joins else length)
    return widths


class Packed(torch.nn.Module):
    """Wraps a base module: padded rows in, padded states out, packed in between."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base
        embeddings: Any = getattr(base, "embeddings", None)
        # RoBERTa-like models number positions from the padding id, over tokens other than padding.
        counts = hasattr(embeddings, "create_position_ids_from_input_ids")
        self._padding_id: int | None = embeddings.padding_idx if counts else None

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)

    def forward(self, *args: Any, packing: Packing | None = None, **inputs: Any) -> Any:
        if packing is None:
            return self.base(*args, **inputs)
        ids = args[0] if args else inputs["input_ids"]
        types = inputs.get("token_type_ids")
        flat = self._flat(ids, packing)
        more: dict[str, Any] = {}
        if types is not None:
            more["token_type_ids"] = self._flat(types, packing)
        if hasattr(self.base.config, "use_cache"):
            more["use_cache"] = False
        answer = self.base(
            input_ids=flat, position_ids=self._positions(ids, packing), packing=packing, **more
        )
        states = answer.last_hidden_state[0]
        padded = states.new_zeros((ids.numel(), states.shape[-1]))
        padded[packing.places] = states
        padded = padded.view(*ids.shape, -1)
        pooler = getattr(self.base, "pooler", None)
        return BaseModelOutputWithPooling(
            last_hidden_state=padded, pooler_output=None if pooler is None else pooler(padded)
        )

    def _flat(self, padded: torch.Tensor, packing: Packing) -> torch.Tensor:
        return padded.flatten()[packing.places][None]

    def _positions(self, ids: torch.Tensor, packing: Packing) -> torch.Tensor:
        if self._padding_id is None:
            return packing.positions
        real = (ids != self._padding_id).long()
        return self._flat(real.cumsum(1) * real + self._padding_id, packing)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packing: Packing | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention function for transformers; packed inputs are [1, heads, tokens, head size]."""
    if packing is None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output, None
    if any(options.get(name) is not None for name in ("softcap", "s_aux", "position_bias")):
        raise ValueError("packed attention supports no caps, sinks or position biases")
    packing.reached = True
    causal = options.get("is_causal")
    causal = bool(getattr(module, "is_causal", False) if causal is None else causal)
    window, scaling = options.get("sliding_window"), options.get("scaling")
    run = _on_cuda if query.is_cuda else _by_runs
    return run(module, (query, key, value), packing, causal, window, scaling), None


Heads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _by_runs(
    module: Any,
    heads: Heads,
    packing: Packing,
    causal: bool,
    window: int | None,
    scaling: float | None,
) -> torch.Tensor:
    """Attention for each run of rows of one width: few calls and little padding."""
    outputs = []
    for first, count, width, own in packing.runs:
        query, key, value = (
            t[0, :, first : first + count * width]
            .view(t.shape[1], count, width, t.shape[3])
            .transpose(0, 1)
            for t in heads
        )
        if packing.past is not None:
            past = packing.past[module.layer_idx]
            key, value = (
                torch.cat([old.expand(count, -1, -1, -1), new], dim=2)
                for old, new in zip(past, (key, value), strict=True)
            )
        mask = _mask(width, packing.before, causal, window, query.device)
        if own is not None and not causal:
            # Padding attends to everything: attention to nothing gives NaN, which would spread.
            padding = ~own[..., packing.before :].transpose(-1, -2)
            mask = own if mask is None else (mask & own) | padding
        output, _ = sdpa_attention_forward(
            module, query, key, value, mask, scaling=scaling, is_causal=causal and mask is None
        )
        outputs.append(output.flatten(0, 1))
    return torch.cat(outputs)[None]


def _mask(
    length: int, before: int, causal: bool, window: int | None, device: torch.device
) -> torch.Tensor | None:
    """[1, 1, length, before + length], True where a token attends; None if SDPA needs no mask.

    `window` is counted as in transformers' FlashAttention: including the token itself.
    """
    wide = window is None or before + length <= window
    if wide and not (causal and before):
        return None
    distance = torch.arange(before + length, device=device)[None] - torch.arange(
        before, before + length, device=device
    ).unsqueeze(1)
    attends = torch.ones_like(distance, dtype=torch.bool)
    if causal:
        attends &= distance <= 0
    if window is not None:
        attends &= distance.abs() < window
    return attends[None, None]


def _on_cuda(
    module: Any,
    heads: Heads,
    packing: Packing,
    causal: bool,
    window: int | None,
    scaling: float | None,
) -> torch.Tensor:
    """All rows in one call of FlashAttention for rows of different lengths."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (tensor[0].transpose(0, 1) for tensor in heads)
    if packing.past is not None:
        past = packing.past[module.layer_idx]
        key, value = (
            torch.cat([old[0].transpose(0, 1), new])[packing.key_places]
            for old, new in zip(past, (key, value), strict=True)
        )
    reach = -1 if window is None else window - 1
    longest = max(packing.lengths)
    output = varlen_attn(
        query,
        key,
        value,
        packing.query_ends,
        packing.key_ends,
        longest,
        longest + packing.before,
        scale=scaling,
        window_size=(reach, 0 if causal else reach),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(output, torch.Tensor)
    return output[None]


def _no_mask(*args: Any, attention_mask: torch.Tensor | None = None, **options: Any) -> Any:
    """Mask function for transformers: none for packed rows, SDPA's for padded ones."""
    if attention_mask is None:
        return None
    return sdpa_mask(*args, attention_mask=attention_mask, **options)


def pack(module: Any) -> Any:
    """Return the module, or a wrapper around it, with support for `packing`."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    base = module.base_model
    if isinstance(module, Packed) or isinstance(base, Packed):
        return module
    base.set_attn_implementation(NAME)
    if base is module:
        return Packed(module)
    setattr(module, module.base_model_prefix, Packed(base))
    return module


def unpack(module: Any) -> Any:
    """Undo `pack`."""
    packed = module if isinstance(module, Packed) else module.base_model
    if not isinstance(packed, Packed):
        return module
    packed.base.set_attn_implementation("sdpa")
    if packed is module:
        return packed.base
    setattr(module, module.base_model_prefix, packed.base)
    return module
