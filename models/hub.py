"""Where a model's files are: the embedded package, a folder, or the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path

from models import embedded
from models.types import EMBEDDED, ModelLoadError, ModelSpec

FILES = ("*.json", "*.jinja", "*.model", "*.safetensors", "*.txt")
# Exports for other runtimes, and the states of a training run.
IGNORED = ("onnx/*", "openvino/*", "checkpoint-*/*")


def is_local(spec: ModelSpec) -> bool:
    """Whether the model's files are on this machine without a hub."""
    return spec.source == EMBEDDED or Path(spec.source).expanduser().is_dir()


def locate(spec: ModelSpec, *, progress: bool = False) -> Path:
    """The folder of the model's files; downloaded first where they are on the hub.

    `progress` shows a bar on standard error while files come. Only weights in safetensors,
    tokenizers and configurations are fetched, and code only for a model that may run it.
    `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_HOME` and `HF_TOKEN` are respected.

    Raises ModelLoadError, with what was tried, where, and what to do.
    """
    if spec.source == EMBEDDED:
        return embedded.folder()
    if is_local(spec):
        return Path(spec.source).expanduser()
    if spec.source.startswith((".", "/", "~")) or spec.source.count("/") > 1:
        raise ModelLoadError(
            f"the folder {spec.source!r} does not exist: give a checkpoint's folder by "
            "RERANKER_LOCAL_MODEL_PATH, or a Hugging Face name by RERANKER_MODEL"
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
        tried = "offline" if _offline() else f"and at {endpoint}"
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelLoadError(
            f"{spec.source!r} was not found in the cache {HF_HUB_CACHE}, {tried}: {reason}. "
            "Check the name and the network, or download the model and give its folder by "
            "RERANKER_LOCAL_MODEL_PATH."
        ) from error
    return Path(folder)


def _offline() -> bool:
    truthy = {"1", "ON", "YES", "TRUE"}
    return any(
        os.environ.get(name, "").upper() in truthy
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )
