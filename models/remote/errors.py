"""Errors of calls to a provider. Each message names the provider and says what to do."""

from __future__ import annotations


class RemoteError(Exception):
    """A provider gave no usable answer. `retry_after_s`: seconds until a retry makes sense."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RemoteConfigError(RemoteError):
    """The settings name an unknown provider, or lack something that it needs."""


class RemoteRefused(RemoteError):
    """The provider rejected the request (400, 413, 422), or does not support it."""


class RemoteUnauthorized(RemoteError):
    """The key is missing, wrong, or has no credit or permission (401, 402, 403)."""


class RemoteNotFound(RemoteError):
    """The provider has no such model or path (404, or a redirect)."""


class RemoteRateLimited(RemoteError):
    """The provider's rate limit (429) or the model's own token budget is used up."""


class RemoteUnavailable(RemoteError):
    """The provider is unreachable or fails (5xx), or calls to it are paused after failures."""


class RemoteTimeout(RemoteError):
    """The provider did not answer within the model's deadline."""


class RemoteAnswerError(RemoteError):
    """The provider answered, but without usable scores."""
