"""What light processes must not import; import-linter's contracts check the direction."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "module", ["serve_app.deployments.ingress", "serve_app.app", "serve_app.cli.main"]
)
def test_the_ingress_imports_neither_torch_nor_transformers(module: str) -> None:
    code = (
        f"import sys, {module}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("module", ["serve_app.deployments.remote_replica", "models.registry"])
def test_remote_models_are_loaded_without_torch(module: str) -> None:
    code = (
        f"import sys, {module}, models.llm.listwise, models.llm.pointwise; "
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
