"""RemoteSpec to a model that answers over HTTP."""

from __future__ import annotations

import os
from collections.abc import Mapping

from models.remote.embeddings import EmbeddingScorer
from models.remote.forms import CHAT, EMBEDDINGS
from models.remote.remote import Remote
from models.remote.scorer import EndpointScorer
from models.remote.types import RemoteScorer, RemoteSpec


def load(spec: RemoteSpec, environ: Mapping[str, str] = os.environ) -> RemoteScorer:
    """The model, without a call to its provider.

    Raises RemoteConfigError where settings are wrong, RemoteUnauthorized where the key is missing.
    """
    remote = Remote(spec, environ)
    if remote.provider.form == EMBEDDINGS:
        return EmbeddingScorer(remote)
    if remote.provider.form == CHAT:
        from models.llm.load import judge

        return judge(remote)
    return EndpointScorer(remote)
