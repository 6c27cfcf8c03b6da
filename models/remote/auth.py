"""Authentication of calls: a key in a header, a signature, or an access token."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlencode, urlsplit

import httpx
import orjson

from models.remote.errors import RemoteConfigError, RemoteUnauthorized
from models.remote.secret import Secret
from models.remote.sigv4 import Credentials, sign
from models.remote.types import Provider, RemoteSpec

# Takes a call's URL and content, returns the URL and the headers to send.
Authorise = Callable[[str, bytes], Awaitable[tuple[str, dict[str, str]]]]
_TOKEN_MARGIN_S = 3600.0


def authorise(
    provider: Provider,
    spec: RemoteSpec,
    secret: Secret,
    client: httpx.AsyncClient,
    environ: Mapping[str, str] = os.environ,
) -> Authorise:
    """The provider's authentication method. Raises RemoteConfigError if a setting is missing."""
    if provider.auth == "sigv4":
        return _signed(provider, spec, secret, environ)
    if provider.auth == "baidu":
        return _BaiduToken(provider, secret, client)
    if provider.auth == "google" and not spec.project:
        raise RemoteConfigError(f"{spec.name}: {provider.title} needs `project`")

    async def by_header(url: str, content: bytes) -> tuple[str, dict[str, str]]:
        headers = dict(provider.headers)
        if key := secret.get():
            if provider.auth == "api-key":
                headers["api-key"] = key
            else:
                headers["authorization"] = f"Bearer {key}"
        if provider.auth == "google":
            headers["x-goog-user-project"] = spec.project or ""
        return url, headers

    return by_header


def secret_of(
    provider: Provider, spec: RemoteSpec, environ: Mapping[str, str] = os.environ
) -> Secret:
    """The model's key: from the settings, else from the provider's default variable."""
    named = bool(spec.api_key_env or spec.api_key_file)
    # Unless a variable is named, AWS's key is read from three variables, see _signed.
    default = None if named or provider.auth == "sigv4" else provider.key_env
    return Secret(
        spec.name,
        env=spec.api_key_env or default,
        file=spec.api_key_file,
        required=bool(named or default),
        environ=environ,
    )


def _signed(
    provider: Provider, spec: RemoteSpec, secret: Secret, environ: Mapping[str, str]
) -> Authorise:
    region = spec.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if not region:
        raise RemoteConfigError(f"{spec.name}: {provider.title} needs `region` or AWS_REGION")

    async def by_signature(url: str, content: bytes) -> tuple[str, dict[str, str]]:
        given = secret.get()
        if given is not None:
            parts: list[str | None] = [*given.split(":", 2), None, None]
        else:
            names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
            parts = [environ.get(name) or None for name in names]
        access, hidden, token = parts[:3]
        if not access or not hidden:
            raise RemoteUnauthorized(
                f"{spec.name}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a key of the "
                "form ID:SECRET or ID:SECRET:TOKEN"
            )
        headers = {"content-type": "application/json", **provider.headers}
        return url, sign(
            Credentials(access, hidden, token),
            method="POST",
            url=url,
            region=region,
            service="bedrock",
            content=content,
            headers=headers,
        )

    return by_signature


class _BaiduToken:
    """Exchanges a key of the form `ID:SECRET` for an access token, cached until it expires.

    As described on cloud.baidu.com's "Access Token" page; a token is valid for thirty days.
    """

    def __init__(self, provider: Provider, secret: Secret, client: httpx.AsyncClient) -> None:
        self._provider = provider
        self._secret = secret
        self._client = client
        self._token: tuple[str, str, float] | None = None

    async def __call__(self, url: str, content: bytes) -> tuple[str, dict[str, str]]:
        key = self._secret.get() or ""
        if self._token is None or self._token[0] != key or self._token[2] < time.monotonic():
            self._token = await self._fetch(url, key)
        return f"{url}?{urlencode({'access_token': self._token[1]})}", dict(self._provider.headers)

    async def _fetch(self, url: str, key: str) -> tuple[str, str, float]:
        name, colon, hidden = key.partition(":")
        if not colon:
            raise RemoteUnauthorized(f"{self._provider.title} needs a key of the form ID:SECRET")
        parts = urlsplit(url)
        answer = await self._client.post(
            f"{parts.scheme}://{parts.netloc}/oauth/2.0/token",
            params={"grant_type": "client_credentials", "client_id": name, "client_secret": hidden},
        )
        try:
            given = orjson.loads(answer.content)
            token, seconds = str(given["access_token"]), float(given["expires_in"])
        except (ValueError, KeyError, TypeError):
            raise RemoteUnauthorized(
                f"{self._provider.title} returned no access token (status {answer.status_code})"
            ) from None
        return key, token, time.monotonic() + max(0.0, seconds - _TOKEN_MARGIN_S)
