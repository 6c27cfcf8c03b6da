"""Text or JSON logs through Ray Serve's configuration, in its log files and on the console."""

from __future__ import annotations

import logging
from logging.handlers import MemoryHandler

from ray._common.formatters import JSONFormatter
from ray.serve.schema import LoggingConfig

from serve_app.settings.observability import LogFormat


def config_of(log_format: LogFormat, level: str) -> LoggingConfig:
    """Serve's logging configuration, without its access log: the service writes its own."""
    encoding = "JSON" if log_format == "json" else "TEXT"
    return LoggingConfig(encoding=encoding, log_level=level, enable_access_log=False)


def match_console_format() -> None:
    """Write JSON to the console if Serve's log file is JSON; Serve itself would write text."""
    handlers = logging.getLogger("ray.serve").handlers
    files = [h for h in handlers if isinstance(h, MemoryHandler) and h.target is not None]
    as_json = [h for h in files if isinstance(getattr(h.target, "formatter", None), JSONFormatter)]
    if not as_json:
        return
    for handler in handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setFormatter(JSONFormatter())
            for added in as_json[0].filters:
                handler.addFilter(added)
