"""A connection to a provider, and what all models scored over one have in common."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from models.remote.address import model_of, url_of, without_query
from models.remote.auth import authorise, secret_of
from models.remote.bounds import CircuitBreaker, TokenBudget
from models.remote.errors import RemoteConfigError
from models.remote.providers import PROVIDERS
from models.remote.transport import Transport, make_client
from models.remote.types import ACTIVATIONS, Provider, RemoteSpec, Scale
from models.types import ModelInfo


def provider_of(spec: RemoteSpec) -> Provider:
    """The provider that the spec names. Raises RemoteConfigError if there is no such provider."""
    if spec.provider not in PROVIDERS:
        raise RemoteConfigError(
            f"{spec.name}: {spec.provider!r} is not a provider; use one of {', '.join(PROVIDERS)}"
        )
    return PROVIDERS[spec.provider]


def _digest(parameters: Mapping[str, Any]) -> str:
    """A hash that identifies the parameters without showing them."""
    text = json.dumps(dict(parameters), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class Connection:
    """A model's spec and its provider, ready to be called."""

    def __init__(self, spec: RemoteSpec, environ: Mapping[str, str] = os.environ) -> None:
        """Raises RemoteConfigError for wrong settings, RemoteUnauthorized if the key is missing."""
        self.spec = spec
        self.provider = provider = provider_of(spec)
        self.model = model_of(provider, spec)
        self.url = url_of(provider, spec, environ)
        self.region = (
            spec.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
        )
        self.scale: Scale = spec.scores or provider.scale
        self.max_documents = spec.max_documents or provider.max_documents
        by_model = provider.tokens_by_model.items()
        self.max_tokens = next(
            (n for start, n in by_model if (self.model or "").startswith(start)),
            provider.max_tokens,
        )
        label = f"{provider.title} (model {spec.name})"
        secret = secret_of(provider, spec, environ)
        # Read the key now, so that a missing one fails the start, not the first request.
        secret.get()
        client = make_client(spec.parallel_calls)
        self.transport = Transport(
            label,
            client=client,
            authorise=authorise(provider, spec, secret, client, environ),
            secret=secret,
            retries=spec.retries,
            parallel=spec.parallel_calls,
            breaker=CircuitBreaker(label),
            budget=TokenBudget(label, spec.max_tokens_per_hour),
            counts=Counter(),
        )

    def info(
        self,
        *,
        family: str = "remote",
        listwise: bool = False,
        template: str | None = None,
        explains: bool = False,
        detail: str = "",
    ) -> ModelInfo:
        """The model's description, including everything that its scores depend on."""
        spec, provider = self.spec, self.provider
        added = _digest(spec.parameters) if spec.parameters else ""
        return ModelInfo(
            name=spec.name,
            source=f"{provider.name}:{self.model or 'default'}",
            revision="",
            family=family,
            backend=provider.name,
            device="remote",
            dtype="",
            max_length=0,
            activation=ACTIVATIONS[self.scale],
            normalize_text=False,
            token_budget=0,
            template=template,
            takes_instruction=provider.takes_instruction,
            instruction=spec.instruction,
            listwise=listwise,
            takes_images=provider.takes_images,
            detail=" ".join(part for part in (without_query(self.url), detail, added) if part),
            max_tokens_per_doc=spec.max_tokens_per_doc,
            whole_requests=True,
            takes_query_image=provider.takes_images,
            explains=explains,
        )

    def with_parameters(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body with the model's `parameters` added; a null parameter removes its field."""
        merged = {**body, **self.spec.parameters}
        return {key: value for key, value in merged.items() if value is not None}


class RemoteModel:
    """Base of the models scored over a connection: everything but the scores."""

    def __init__(self, connection: Connection, info: ModelInfo) -> None:
        self._connection = connection
        self.info = info

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of events so far, by event."""
        return self._connection.transport.counts

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.transport.close()
