"""Finds a model's files: in the embedded package, a folder, or the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path

from models import embedded
from models.types import EMBEDDED, ModelLoadError, ModelSpec

FILES = ("*.json", "*.jinja", "*.model", "*.safetensors", "*.txt")
# Exports for other runtimes, and training checkpoints.
IGNORED = ("onnx/*", "openvino/*", "checkpoint-*/*")


def is_local(spec: ModelSpec) -> bool:
    """Whether the model is embedded or a folder, so that no hub is needed."""
    return spec.source == EMBEDDED or Path(spec.source).expanduser().is_dir()


def locate(spec: ModelSpec, *, progress: bool = False) -> Path:
    """The folder with the model's files, downloaded from the hub if necessary.

    `progress` shows a progress bar on standard error during the download. Only safetensors
    weights, tokenizers and configurations are downloaded, and code only with
    `spec.trust_remote_code`. Respects `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_HOME` and `HF_TOKEN`.

    Raises ModelLoadError, which says what was tried, where, and what to do.
    """
    if spec.source == EMBEDDED:
        return embedded.folder()
    if is_local(spec):
        return Path(spec.source).expanduser()
    if spec.source.startswith((".", "/", "~")) or spec.source.count("/") > 1:
        raise ModelLoadError(
            f"the folder {spec.source!r} does not exist: set RERANKER_LOCAL_MODEL_PATH to a "
            "checkpoint's folder, or RERANKER_MODEL to a Hugging Face name"
        )
    return _download(spec, progress)


def _download(spec: ModelSpec, progress: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    (enable_progress_bars if progress else disable_progress_bars)()
    try:
        folder = snapshot_download(
            spec.source,
            revision=spec.revision,
            allow_patterns=[*FILES, *(["*.py"] if spec.trust_remote_code else [])],
            ignore_patterns=list(IGNORED),
            local_files_only=_offline(),
        )
    except Exception as error:
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        tried = "in offline mode" if _offline() else f"or at {endpoint}"
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelLoadError(
            f"{spec.source!r} was not found in the cache {HF_HUB_CACHE}, {tried}: {reason}. "
            "Check the name and the network, or download the model and set "
            "RERANKER_LOCAL_MODEL_PATH to its folder."
        ) from error
    return Path(folder)


def _offline() -> bool:
    truthy = {"1", "ON", "YES", "TRUE"}
    return any(
        os.environ.get(name, "").upper() in truthy
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )
