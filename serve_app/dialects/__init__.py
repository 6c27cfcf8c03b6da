"""The wire formats: a file each."""

from serve_app.dialects.base import BadRequest, Dialect, Limits, read_json
from serve_app.dialects.native import NATIVE
from serve_app.dialects.v1 import V1

__all__ = ["NATIVE", "V1", "BadRequest", "Dialect", "Limits", "read_json"]
