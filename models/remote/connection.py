"""What all remote models have in common: address, name, limits and the way to call."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from models.remote.address import model_of, shown, url_of
from models.remote.auth import authorise, secret_of
from models.remote.bounds import Breaker, TokenBudget
from models.remote.errors import RemoteConfigError
from models.remote.providers import PROVIDERS
from models.remote.transport import Transport, make_client
from models.remote.types import ACTIVATIONS, Provider, RemoteSpec, Scale
from models.types import ModelInfo


def provider_of(spec: RemoteSpec) -> Provider:
    """The provider's row. Raises RemoteConfigError where there is none of the name."""
    if spec.provider not in PROVIDERS:
        raise RemoteConfigError(
            f"{spec.name}: {spec.provider!r} is not a provider; there are {', '.join(PROVIDERS)}"
        )
    return PROVIDERS[spec.provider]


def _digest(parameters: Mapping[str, Any]) -> str:
    """What tells parameters from others without showing them."""
    text = json.dumps(dict(parameters), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class Remote:
    """A spec and its provider's row, ready to be called."""

    def __init__(self, spec: RemoteSpec, environ: Mapping[str, str] = os.environ) -> None:
        """Raises RemoteConfigError for wrong settings, RemoteUnauthorized without a key."""
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
        who = f"{provider.title} (model {spec.name})"
        secret = secret_of(provider, spec, environ)
        # Asked now, so that a missing key stops the start and not the first request.
        secret.get()
        client = make_client(spec.parallel_calls)
        self.transport = Transport(
            who,
            client=client,
            authorise=authorise(provider, spec, secret, client, environ),
            secret=secret,
            retries=spec.retries,
            parallel=spec.parallel_calls,
            breaker=Breaker(who),
            budget=TokenBudget(who, spec.max_tokens_per_hour),
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
        """The model as the service sees it; all that scores depend on is in it."""
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
            detail=" ".join(part for part in (shown(self.url), detail, added) if part),
            max_tokens_per_doc=spec.max_tokens_per_doc,
            whole_requests=True,
            takes_query_image=provider.takes_images,
            explains=explains,
        )

    def completed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body with the settings' parameters; one that is null takes its field away."""
        whole = {**body, **self.spec.parameters}
        return {key: value for key, value in whole.items() if value is not None}


class RemoteModel:
    """What a scorer over a Remote is beside its scores."""

    def __init__(self, remote: Remote, info: ModelInfo) -> None:
        self._remote = remote
        self.info = info

    @property
    def counts(self) -> Mapping[str, int]:
        """What happened so far, by event."""
        return self._remote.transport.counts

    async def close(self) -> None:
        """Close the connections."""
        await self._remote.transport.close()
