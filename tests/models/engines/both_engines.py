"""One checkpoint on torch and on OpenVINO."""

from __future__ import annotations

from models.registry import load
from models.types import ModelSpec, Scorer

QUERY = "what do pandas eat?"


def torch_and_openvino(path: str, **options: object) -> tuple[Scorer, Scorer]:
    torch_one = load(ModelSpec("m", source=path, dtype="float32"))
    return torch_one, load(ModelSpec("m", source=path, backend="openvino", **options))  # type: ignore[arg-type]
