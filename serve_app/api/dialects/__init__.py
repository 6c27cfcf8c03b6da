"""The wire formats, one file each; `routes` maps paths to them."""

from serve_app.api.dialects.base import Dialect, Limits, ManyDialect, Wire
from serve_app.api.dialects.json_body import read_json
from serve_app.api.dialects.native import NATIVE
from serve_app.api.dialects.routes import ROUTES, default_for

__all__ = [
    "NATIVE",
    "ROUTES",
    "Dialect",
    "Limits",
    "ManyDialect",
    "Wire",
    "default_for",
    "read_json",
]
