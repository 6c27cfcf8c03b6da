"""The score store: raw scores of pairs, keyed by everything that a score depends on."""

from serve_app.service.cache.key import PairKeys
from serve_app.service.cache.memory import MemoryStore, NullStore, ScoreStore
from serve_app.service.cache.single_flight import SingleFlight

__all__ = ["MemoryStore", "NullStore", "PairKeys", "ScoreStore", "SingleFlight"]
