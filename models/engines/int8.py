"""Quantizes weights and activations to 8 bits for OpenVINO: NNCF, post-training."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from models.engines.base import pad
from models.types import TokenRow

# Number of pairs that ranges of activations are taken from; more make little difference.
PAIRS, BATCH = 64, 4
MAX_TOKENS = 192
# Modules whose docstrings serve as text, because they are on every machine.
SOURCES = ("argparse", "asyncio", "email.message", "http.client", "json", "logging", "pathlib")


def installed() -> bool:
    return find_spec("nncf") is not None


def calibration_rows(tokenizer: Any) -> list[TokenRow]:
    """Rows of a query and a document, in many lengths."""
    rows = []
    for name, text in _documents():
        encoded = tokenizer(name, text, truncation=True, max_length=MAX_TOKENS)
        rows.append(TokenRow(encoded["input_ids"], encoded.get("token_type_ids")))
    return rows


def _documents() -> Iterator[tuple[str, str]]:
    found = []
    for source in SOURCES:
        module = import_module(source)
        for name, member in inspect.getmembers(module):
            text = inspect.getdoc(member) if inspect.isclass(member) or callable(member) else None
            if text and not name.startswith("_"):
                found.append((f"what does {name} do", text))
    yield from found[:: max(1, len(found) // PAIRS)][:PAIRS]


def quantize(model: Any, rows: Sequence[TokenRow], pad_token_id: int) -> Any:
    """Quantize an OpenVINO model's multiplications to 8 bits, calibrated on `rows`."""
    os.environ.setdefault("NNCF_CI", "1")  # otherwise it reports its use
    import nncf

    nncf.set_log_level(logging.ERROR)
    ordered = sorted(rows, key=len)
    parts = [ordered[i : i + BATCH] for i in range(0, len(ordered), BATCH)]
    # NNCF prints progress bars to standard output.
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(
            model,
            nncf.Dataset([pad(part, pad_token_id).arrays for part in parts]),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(parts),
        )
