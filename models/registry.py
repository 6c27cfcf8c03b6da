"""Loads the scorer that a spec describes: a local checkpoint or a provider's model.

Importing this module imports neither torch nor transformers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module

from models import hub
from models.checkpoint import Checkpoint
from models.long_documents import LongDocuments
from models.remote.connection import Connection
from models.remote.embeddings import EmbeddingScorer
from models.remote.forms import CHAT, EMBEDDINGS
from models.remote.scorer import EndpointScorer
from models.remote.types import RemoteScorer, RemoteSpec
from models.types import ModelLoadError, ModelSpec, Scorer

# Each family's module and the class or function that builds it, in the order in which they are
# asked whether `matches(checkpoint)`. Modules are imported only when needed, because they import
# torch and the ingress does without it.
FAMILIES = {
    "listwise": ("models.families.listwise", "Listwise"),
    "multimodal": ("models.families.multimodal", "load"),
    "layerwise": ("models.families.layerwise", "Layerwise"),
    # Before the decoders: Qwen3-Embedding's config names a causal model.
    "colbert": ("models.families.colbert", "ColBERT"),
    "bi-encoder": ("models.families.bi_encoder", "BiEncoder"),
    "seq2seq": ("models.families.seq2seq", "Seq2Seq"),
    "causal": ("models.families.causal", "Causal"),
    "cross-encoder": ("models.families.cross_encoder", "CrossEncoder"),
    "late-interaction": ("models.families.late_interaction", "LateInteraction"),
}
SUPPORTED = (
    "supported are cross-encoders (…ForSequenceClassification), Qwen3-Reranker, mxbai-rerank-v2, "
    "bge-reranker-v2-gemma and -minicpm-layerwise, jina-reranker-v3 and -m0, Qwen3-VL-Reranker, "
    "monoT5 and RankT5, ColBERT (Stanford's and PyLate's folders) and sentence-transformers "
    "folders; see docs/models.md"
)


def load(spec: ModelSpec) -> Scorer:
    """Load a local model on the device and in the precision that the spec gives.

    Raises ModelLoadError, which says what was tried, where, and what to do.
    """
    path = hub.locate(spec)
    try:
        checkpoint = Checkpoint(spec, path)
        checkpoint.hash_in_background()
        return _load(checkpoint)
    except ModelLoadError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelLoadError(
            f"{spec.source!r} could not be loaded from {path}: {reason} "
            "Check that the folder contains config.json, a tokenizer and *.safetensors."
        ) from error


def _load(checkpoint: Checkpoint) -> Scorer:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    module, name = FAMILIES[_family(checkpoint)]
    return LongDocuments(getattr(import_module(module), name)(checkpoint), checkpoint.tokenizer)


def _family(checkpoint: Checkpoint) -> str:
    spec = checkpoint.spec
    if spec.family != "auto":
        if spec.family not in FAMILIES:
            raise ModelLoadError(
                f"{spec.name}: unknown family {spec.family!r}; choose one of {', '.join(FAMILIES)}"
            )
        return spec.family
    for family, (module, _) in FAMILIES.items():
        if import_module(module).matches(checkpoint):
            return family
    named = ", ".join(checkpoint.architectures) or "no architecture"
    raise ModelLoadError(f"{spec.source!r} is not a supported reranker ({named}): {SUPPORTED}")


def load_remote(spec: RemoteSpec, environ: Mapping[str, str] = os.environ) -> RemoteScorer:
    """Set up a provider's model, without calling the provider.

    Raises RemoteConfigError for invalid settings and RemoteUnauthorized if the key is missing.
    """
    connection = Connection(spec, environ)
    if connection.provider.form == EMBEDDINGS:
        return EmbeddingScorer(connection)
    if connection.provider.form == CHAT:
        # Imported here, since most remote models are not language models.
        from models.llm.listwise import ListwiseJudge
        from models.llm.pointwise import PointwiseJudge

        if spec.judge == "listwise":
            return ListwiseJudge(connection)
        return PointwiseJudge(connection)
    return EndpointScorer(connection)
