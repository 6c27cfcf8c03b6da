"""The score store: a pair's raw score by what the model sees."""

from serve_app.cache.flight import SingleFlight
from serve_app.cache.key import PairKeys
from serve_app.cache.memory import MemoryStore, NullStore, ScoreStore

__all__ = ["MemoryStore", "NullStore", "PairKeys", "ScoreStore", "SingleFlight"]
