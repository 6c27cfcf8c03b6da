"""Train an embedding model with a reranker as the guide (extra `train`)."""

from importlib.util import find_spec

if find_spec("sentence_transformers") is None:
    raise ModuleNotFoundError(
        "sentence-transformers is not installed: pip install 'rerank-serve[train]'",
        name="sentence_transformers",
    )

from models.training.counters import Counters, RerankerCallback
from models.training.guide import Guide, GuideError
from models.training.guides import FunctionGuide, HandleGuide, HTTPGuide, ScorerGuide
from models.training.losses import RerankerCachedGISTEmbedLoss
from models.training.optimized import OptimizedRerankerCachedGISTEmbedLoss
from models.training.prefilter import PRESETS, Prefilter
from models.training.texts import TextCollator

__all__ = [
    "PRESETS",
    "Counters",
    "FunctionGuide",
    "Guide",
    "GuideError",
    "HTTPGuide",
    "HandleGuide",
    "OptimizedRerankerCachedGISTEmbedLoss",
    "Prefilter",
    "RerankerCachedGISTEmbedLoss",
    "RerankerCallback",
    "ScorerGuide",
    "TextCollator",
]
