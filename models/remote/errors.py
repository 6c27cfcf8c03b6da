"""How a call to a provider can fail. Each message names the provider and says what to do."""

from __future__ import annotations


class RemoteError(Exception):
    """A provider gave no usable answer. `retry_after_s`: when it may be asked again."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RemoteConfigError(RemoteError):
    """The settings name no such provider, or lack what it needs."""


class RemoteRefused(RemoteError):
    """The provider finds the request wrong (400, 413, 422), or it can't be put to it."""


class RemoteUnauthorized(RemoteError):
    """No key, a wrong one, or one without credit or rights (401, 402, 403)."""


class RemoteNotFound(RemoteError):
    """The provider has no such model or path (404, or a redirect)."""


class RemoteRateLimited(RemoteError):
    """The provider's limit is reached (429), or the budget set for it."""


class RemoteUnavailable(RemoteError):
    """The provider can't be reached, or fails (5xx), or failed so often that it is left alone."""


class RemoteTimeout(RemoteError):
    """The provider did not answer within the model's deadline."""


class RemoteAnswerError(RemoteError):
    """The provider answered, with something that holds no usable scores."""
