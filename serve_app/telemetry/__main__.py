"""Print the table of metrics for docs/observability.md."""

from serve_app.telemetry.metrics import table

print(table())
