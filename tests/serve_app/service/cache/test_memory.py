"""The memory tier: its size limit, expiry and eviction."""

from __future__ import annotations

import pytest

from models.types import Score
from serve_app.service.cache import MemoryStore, NullStore
from serve_app.service.cache.memory import ENTRY_BYTES


def test_the_least_recently_used_entry_is_evicted_at_max_bytes() -> None:
    store = MemoryStore(max_bytes=2 * ENTRY_BYTES, ttl_s=60)
    store.put_many({b"a": Score(1, 1), b"b": Score(2, 1)})
    store.get_many([b"a"])
    store.put_many({b"c": Score(3, 1)})
    assert set(store.get_many([b"a", b"b", b"c"])) == {b"a", b"c"}
    assert store.stats() == {"entries": 2, "bytes": 2 * ENTRY_BYTES, "hits": 3, "misses": 1}


def test_entries_expire_after_the_time_to_live() -> None:
    now = [0.0]
    store = MemoryStore(max_bytes=10_000, ttl_s=5, clock=lambda: now[0])
    store.put_many({b"a": Score(1, 1)})
    now[0] = 4.9
    assert store.get_many([b"a"]) == {b"a": Score(1, 1)}
    now[0] = 5.1
    assert store.get_many([b"a"]) == {}
    assert store.stats()["entries"] == 0


def test_every_field_of_a_score_is_stored() -> None:
    store = MemoryStore(max_bytes=10_000, ttl_s=5)
    kept = {b"a": Score(-1.2345678901234567, 70_000, True, 12), b"b": Score(float("inf"), 0)}
    store.put_many(kept)
    assert store.get_many([b"a", b"b"]) == kept


@pytest.mark.parametrize("store", [NullStore(), MemoryStore(0, 60)])
def test_a_store_without_capacity_stores_nothing(store: NullStore | MemoryStore) -> None:
    store.put_many({b"a": Score(1, 1)})
    assert store.get_many([b"a"]) == {}
