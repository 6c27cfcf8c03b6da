"""Writes the table of metrics, as docs/observability.md has it."""

from serve_app.telemetry.families import table

print(table())
