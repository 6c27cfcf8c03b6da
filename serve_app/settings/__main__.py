"""Prints docs/settings.md."""

from serve_app.settings.document import table

print(table())
