"""ModelSpec to Scorer: where a checkpoint is, and which family reads it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from models import embedded
from models.types import EMBEDDED, ModelLoadError, ModelSpec, Scorer

SUPPORTED = (
    "supported are cross-encoders (…ForSequenceClassification with one label) and "
    "sentence-transformers encoder folders (modules.json)"
)


def load(spec: ModelSpec) -> Scorer:
    """Load a model on the device and at the precision that the spec asks for.

    Raises ModelLoadError, with what was tried, where, and what to do.
    """
    try:
        return _load(spec)
    except ModelLoadError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelLoadError(
            f"{spec.source!r} could not be loaded {_where(spec)}: {reason} {_advice(spec)}"
        ) from error


def _load(spec: ModelSpec) -> Scorer:
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
    path = _checkpoint(spec)
    common: dict[str, Any] = {
        "revision": spec.revision,
        "trust_remote_code": spec.trust_remote_code,
        "local_files_only": _is_local(spec) or _offline(),
    }
    common = {name: value for name, value in common.items() if value is not None}
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

    revision = _revision(spec, path, config)
    if family == "cross-encoder":
        saved = _saved_by_sentence_transformers(path, common)
        return CrossEncoder(spec, module, tokenizer, spec.source, revision, saved)
    return LateInteraction(spec, module, tokenizer, spec.source, revision, _own_length(path))


def _is_local(spec: ModelSpec) -> bool:
    return spec.source == EMBEDDED or Path(spec.source).expanduser().is_dir()


def _offline() -> bool:
    truthy = {"1", "ON", "YES", "TRUE"}
    return any(
        os.environ.get(name, "").upper() in truthy
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def _checkpoint(spec: ModelSpec) -> str:
    if spec.source == EMBEDDED:
        return str(embedded.folder())
    looks_like_a_path = spec.source.startswith((".", "/", "~")) or spec.source.count("/") > 1
    if looks_like_a_path and not Path(spec.source).expanduser().is_dir():
        raise ModelLoadError(
            f"the folder {spec.source!r} does not exist: give a checkpoint's folder by "
            "RERANKER_LOCAL_MODEL_PATH, or a Hugging Face name by RERANKER_MODEL"
        )
    return str(Path(spec.source).expanduser()) if looks_like_a_path else spec.source


def _family(spec: ModelSpec, path: str, config: Any) -> str:
    architectures = [str(name) for name in getattr(config, "architectures", None) or ()]
    if any(name.endswith("ForSequenceClassification") for name in architectures):
        return "cross-encoder"
    if (Path(path) / "modules.json").is_file():
        return "late-interaction"
    named = ", ".join(architectures) or "no architecture"
    raise ModelLoadError(f"{spec.source!r} is not a known kind of reranker ({named}): {SUPPORTED}")


def _saved_by_sentence_transformers(path: str, common: dict[str, Any]) -> dict[str, Any]:
    from transformers.utils import cached_file

    file = cached_file(
        path,
        "config_sentence_transformers.json",
        revision=common.get("revision"),
        local_files_only=common["local_files_only"],
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    content: dict[str, Any] = json.loads(Path(file).read_text()) if file else {}
    return content


def _own_length(path: str) -> int | None:
    file = Path(path) / "sentence_bert_config.json"
    if not file.is_file():
        return None
    length = json.loads(file.read_text()).get("max_seq_length")
    return int(length) if length else None


def _revision(spec: ModelSpec, path: str, config: Any) -> str:
    """What tells one version of the weights from another, for the cache's keys."""
    if spec.source == EMBEDDED:
        return embedded.WEIGHTS_SHA256[:12]
    if not Path(path).is_dir():
        return str(getattr(config, "_commit_hash", None) or spec.revision or "main")
    digest = hashlib.blake2b(digest_size=6)
    for file in sorted(Path(path).glob("*")):
        if file.suffix in {".json", ".safetensors", ".txt", ".model"}:
            stat = file.stat()
            digest.update(f"{file.name}:{stat.st_size}:{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _where(spec: ModelSpec) -> str:
    if _is_local(spec):
        return "from that folder"
    from huggingface_hub.constants import HF_HUB_CACHE

    offline = ", offline" if _offline() else ""
    return f"from the Hugging Face hub or its cache {HF_HUB_CACHE}{offline}"


def _advice(spec: ModelSpec) -> str:
    if _is_local(spec):
        return "Check that the folder holds config.json, a tokenizer and *.safetensors."
    return (
        "Check the name and the network, or download the model and give its folder by "
        "RERANKER_LOCAL_MODEL_PATH."
    )
