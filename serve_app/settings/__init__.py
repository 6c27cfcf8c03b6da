"""Every setting of the service, declared once, in sections."""

from serve_app.settings.base import SettingsError
from serve_app.settings.loading import load
from serve_app.settings.settings import Settings

__all__ = ["Settings", "SettingsError", "load"]
