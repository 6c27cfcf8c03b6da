"""Writes the table of metrics, as docs/observability.md has it."""

from serve_app.telemetry.metrics import table

print(table())
