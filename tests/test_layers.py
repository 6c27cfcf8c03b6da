"""Import rules: models never import the service, and the ingress never imports torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "models").rglob("*.py")), ids=lambda p: p.name)
def test_models_import_neither_the_service_nor_ray_nor_a_web_framework(path: Path) -> None:
    assert not _imports(path) & {"serve_app", "ray", "starlette", "uvicorn", "fastapi"}


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
