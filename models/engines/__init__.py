"""How a forward pass runs: the engines, and the choice of one for a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Protocol

from models.checkpoint import Checkpoint
from models.engines import mlx, openvino_engine, torch_engine
from models.engines.base import CHECKED_TOKENS, Engine, EngineError, EngineRequest, Output
from models.lengths import position_limit
from models.types import ModelLoadError

__all__ = ["Engine", "engine_for"]

logger = logging.getLogger(__name__)


class EngineModule(Protocol):
    """What each engine's module offers. It imports its library only inside these functions."""

    # The engine's name in messages.
    TITLE: str

    def needed_for(self, request: EngineRequest) -> str | None:
        """Why no other engine can run the checkpoint as the spec asks; None if others can."""
        ...

    def why_not(self, request: EngineRequest) -> str | None:
        """Why the engine cannot run the checkpoint on this machine; None if it can.

        With the backend `auto`, also why it is not chosen automatically.
        """
        ...

    def build(self, request: EngineRequest) -> Engine:
        """Load the checkpoint. Raises EngineError if another engine may still be able to."""
        ...


# By the spec's `backend`, in the order in which `auto` tries them.
ENGINES: Mapping[str, EngineModule] = {
    "mlx": mlx,
    "openvino": openvino_engine,
    "torch": torch_engine,
}


def engine_for(
    checkpoint: Checkpoint,
    make: Callable[[], Any],
    output: Output,
    *,
    types: str = "token_type_ids",
    portable: bool = False,
) -> Engine:
    """Build the engine that the spec's `backend` names, or with `auto` the first that can run it.

    The parameters are described in EngineRequest. Raises ModelLoadError if the engine that the
    spec names, or that its precision, device or weights need, cannot run the checkpoint.
    """
    request = _request(checkpoint, make, output, types, portable)
    spec = checkpoint.spec
    needs = {name: need for name, engine in ENGINES.items() if (need := engine.needed_for(request))}
    needed = next(iter(needs), None)
    if needed is not None and spec.backend not in ("auto", needed):
        raise ModelLoadError(
            f"{spec.source!r} can't run on {ENGINES[spec.backend].TITLE}: {needs[needed]}; set "
            f"RERANKER_BACKEND={needed}"
        )
    named = needed if spec.backend == "auto" else spec.backend
    for engine in ENGINES.values() if named is None else [ENGINES[named]]:
        reason, cause = engine.why_not(request), None
        if reason is None:
            try:
                return engine.build(request)
            except EngineError as error:
                reason, cause = str(error), error
        if named is not None:
            # torch runs everything, except what needs this engine.
            hint = "; try RERANKER_BACKEND=torch" if cause is not None else ""
            hint = f" ({needs[needed]})" if needed is not None else hint
            raise ModelLoadError(
                f"{spec.source!r} can't run on {engine.TITLE}: {reason}{hint}"
            ) from cause
        if cause is not None:
            logger.warning("%s falls back from %s: %s", spec.name, engine.TITLE, reason)
    raise ModelLoadError(f"no engine can run {spec.source!r}")


def _request(
    checkpoint: Checkpoint, make: Callable[[], Any], output: Output, types: str, portable: bool
) -> EngineRequest:
    tokenizer, config = checkpoint.tokenizer, checkpoint.config
    # A tokenizer may lack a pad token. Any id will do then, because padding is masked.
    pads = (tokenizer.pad_token_id, getattr(config, "pad_token_id", None))
    return EngineRequest(
        checkpoint=checkpoint,
        make=cache(make),
        output=output,
        types=types,
        portable=portable,
        pad_token_id=next((int(pad) for pad in pads if isinstance(pad, int) and pad >= 0), 0),
        typed=types != "token_type_ids" or types in tokenizer.model_input_names,
        longest=position_limit(config) or CHECKED_TOKENS,
    )
