"""A checkpoint's folder: its config, tokenizer and weights, each read on first use."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from models import embedded, hub
from models.revision import folder_revision
from models.types import EMBEDDED, ModelLoadError, ModelSpec


class Checkpoint:
    """A model's files, which a family is recognised by and built from."""

    def __init__(self, spec: ModelSpec, path: Path) -> None:
        self.spec = spec
        self.root = path
        self._hash: Future[str] | None = None
        # A sentence-transformers folder may keep its encoder in a subfolder.
        self.path = path / self.parts[0][1] if self.parts else path
        self._common: dict[str, Any] = {
            "trust_remote_code": spec.trust_remote_code,
            "local_files_only": True,
        }

    @cached_property
    def config(self) -> Any:
        """The transformers config; a generic one if transformers does not know the model type."""
        from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

        content = self.part_json("config.json")
        known = content is None or content.get("model_type") in CONFIG_MAPPING
        if not known and not self.spec.trust_remote_code:
            return PreTrainedConfig.from_dict(content)
        return AutoConfig.from_pretrained(self.path, **self._common)

    @cached_property
    def tokenizer(self) -> Any:
        """The transformers tokenizer. Raises ModelLoadError if it is not a fast one."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.path, **self._common)
        if not tokenizer.is_fast:
            raise ModelLoadError(
                f"{self.spec.source!r} has no fast tokenizer; save one as tokenizer.json"
            )
        return tokenizer

    @property
    def architectures(self) -> tuple[str, ...]:
        return tuple(str(name) for name in getattr(self.config, "architectures", None) or ())

    @property
    def model_type(self) -> str:
        return str(self.config.model_type)

    @cached_property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """Class and folder of each module of a sentence-transformers folder; empty for others."""
        listed: list[dict[str, str]] = self.json("modules.json") or []
        return tuple((module["type"].rsplit(".", 1)[-1], module["path"]) for module in listed)

    @property
    def modules(self) -> tuple[str, ...]:
        """The classes in `parts`."""
        return tuple(kind for kind, _ in self.parts)

    def json(self, name: str) -> Any:
        """A JSON file of the folder, or None if there is no such file."""
        return _read(self.root / name)

    def part_json(self, name: str) -> Any:
        """A JSON file of the encoder's folder, or None if there is no such file."""
        return _read(self.path / name)

    def module(self, auto_class: Any, *, may_lack: tuple[str, ...] = (), **options: Any) -> Any:
        """Load the torch module in float32, with weights from safetensors files only.

        `may_lack`: substrings of the names of weights that no family uses. Raises ModelLoadError
        if any other weight is missing or does not have the shape that the config gives.
        """
        import torch

        module, report = auto_class.from_pretrained(
            self.path,
            config=self.config,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **self._common,
            **options,
        )
        missing = sorted(
            key for key in report["missing_keys"] if not any(part in key for part in may_lack)
        )
        if missing:
            raise ModelLoadError(
                f"{self.spec.source!r} lacks weights for {', '.join(missing[:3])} "
                f"({len(missing)} in total): it is not a fine-tuned reranker"
            )
        return module

    def weights(self, part: str = "") -> dict[str, Any]:
        """All tensors by name, from the encoder's folder or from the subfolder `part`.

        Raises ModelLoadError if the folder has no safetensors files.
        """
        from safetensors.torch import load_file

        folder = self.root / part if part else self.path
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise ModelLoadError(f"{self.spec.source!r} has no safetensors weights in {folder}")
        tensors: dict[str, Any] = {}
        for file in files:
            tensors.update(load_file(file))
        return tensors

    @cached_property
    def revision(self) -> str:
        """Identifies this version of the weights in cache keys: a commit, or a hash of a folder."""
        if self.spec.source == EMBEDDED:
            return embedded.WEIGHTS_SHA256[:12]
        if not hub.is_local(self.spec):
            return self.root.name  # the hub's cache names a snapshot's folder after its commit
        return self._hash.result() if self._hash else self._hash_folder()

    def hash_in_background(self) -> None:
        """Start hashing a folder, so that it does not delay the loading of its weights."""
        if hub.is_local(self.spec) and self.spec.source != EMBEDDED:
            pool = ThreadPoolExecutor(1, thread_name_prefix="hash")
            self._hash = pool.submit(self._hash_folder)
            pool.shutdown(wait=False)

    def _hash_folder(self) -> str:
        return folder_revision(self.root, code=self.spec.trust_remote_code)

    @property
    def version(self) -> str:
        """The revision, preceded by the source of the weights."""
        return f"{self.spec.source} {self.revision}"


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
