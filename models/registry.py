"""ModelSpec to Scorer: where a checkpoint is, and which family reads it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from models import embedded, hub
from models.types import EMBEDDED, ModelLoadError, ModelSpec, Scorer

SUPPORTED = (
    "supported are cross-encoders (…ForSequenceClassification with one label) and "
    "sentence-transformers encoder folders (modules.json)"
)


def load(spec: ModelSpec) -> Scorer:
    """Load a model on the device and at the precision that the spec asks for.

    Raises ModelLoadError, with what was tried, where, and what to do.
    """
    path = hub.locate(spec)
    try:
        return _load(spec, path)
    except ModelLoadError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelLoadError(
            f"{spec.source!r} could not be loaded from {path}: {reason} "
            "Check that the folder holds config.json, a tokenizer and *.safetensors."
        ) from error


def _load(spec: ModelSpec, path: Path) -> Scorer:
    import torch
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    common: dict[str, Any] = {
        "trust_remote_code": spec.trust_remote_code,
        "local_files_only": True,
    }
    config = AutoConfig.from_pretrained(path, **common)
    family = _family(spec, path, config)
    tokenizer = AutoTokenizer.from_pretrained(path, **common)
    kind = AutoModelForSequenceClassification if family == "cross-encoder" else AutoModel
    module, report = kind.from_pretrained(
        path,
        config=config,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
        **common,
    )
    # A pooling layer that no family reads may be absent.
    missing = [
        key for key in report["missing_keys"] if "pooler" not in key or kind is not AutoModel
    ]
    if missing:
        raise ModelLoadError(
            f"{spec.source!r} lacks weights for {', '.join(sorted(missing)[:3])} "
            f"({len(missing)} in all): it is not a finished reranker. {SUPPORTED}"
        )
    from models.families.cross_encoder import CrossEncoder
    from models.families.late_interaction import LateInteraction

    revision = _revision(spec, path)
    if family == "cross-encoder":
        saved = _saved(path, "config_sentence_transformers.json")
        return CrossEncoder(spec, module, tokenizer, spec.source, revision, saved)
    length = _saved(path, "sentence_bert_config.json").get("max_seq_length")
    return LateInteraction(spec, module, tokenizer, spec.source, revision, length)


def _family(spec: ModelSpec, path: Path, config: Any) -> str:
    architectures = [str(name) for name in getattr(config, "architectures", None) or ()]
    if any(name.endswith("ForSequenceClassification") for name in architectures):
        return "cross-encoder"
    if (path / "modules.json").is_file():
        return "late-interaction"
    named = ", ".join(architectures) or "no architecture"
    raise ModelLoadError(f"{spec.source!r} is not a known kind of reranker ({named}): {SUPPORTED}")


def _saved(path: Path, name: str) -> dict[str, Any]:
    """A JSON file of the checkpoint's folder; empty where it has none."""
    file = path / name
    content: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return content


def _revision(spec: ModelSpec, path: Path) -> str:
    """What tells one version of the weights from another, for the cache's keys."""
    if spec.source == EMBEDDED:
        return embedded.WEIGHTS_SHA256[:12]
    if not hub.is_local(spec):
        return path.name  # the hub's cache names a snapshot's folder by its commit
    digest = hashlib.blake2b(digest_size=6)
    for file in sorted(path.glob("*")):
        if file.suffix in {".json", ".safetensors", ".txt", ".model"}:
            stat = file.stat()
            digest.update(f"{file.name}:{stat.st_size}:{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
