"""Loading a replica's scorer."""

from __future__ import annotations

import pytest

from models import registry
from models.types import ModelLoadError, ModelSpec
from serve_app.deployments import loading


def test_libraries_are_imported_before_the_weights_are_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[str] = []

    def load(spec: ModelSpec) -> None:
        steps.append("load")
        raise ModelLoadError("no\nweights")

    monkeypatch.setattr(loading, "import_module", steps.append)
    monkeypatch.setattr(registry, "load", load)
    with pytest.raises(RuntimeError, match=f"{loading.LOAD_FAILED}no weights"):
        loading.load_scorer(ModelSpec("m"), False, None)
    assert steps == ["torch", "transformers", "load"]
