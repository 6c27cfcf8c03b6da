"""Keys tell apart what scores apart; the memory tier keeps its bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.types import Score
from serve_app.cache import MemoryStore, NullStore, PairKeys
from serve_app.cache.memory import ENTRY_BYTES
from tests.serve_app.fakes import INFO


@pytest.mark.parametrize(
    "change", [{"name": "x"}, {"revision": "2"}, {"max_length": 65}, {"dtype": "bfloat16"}]
)
def test_a_key_depends_on_the_model(change: dict[str, str]) -> None:
    assert PairKeys(INFO, "q").of("d") != PairKeys(replace(INFO, **change), "q").of("d")  # type: ignore[arg-type]


def test_no_two_pairs_read_the_same() -> None:
    pairs = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "")]
    assert len({PairKeys(INFO, q).of(d) for q, d in pairs}) == 4
    assert PairKeys(INFO, "q", "x").of("d") != PairKeys(INFO, "q").of("d")
    keys = PairKeys(INFO, "q")
    assert keys.of("d") == keys.of("d")


def test_the_oldest_goes_when_the_bytes_are_used_up() -> None:
    store = MemoryStore(max_bytes=2 * ENTRY_BYTES, ttl_s=60)
    store.put_many({b"a": Score(1, 1), b"b": Score(2, 1)})
    store.get_many([b"a"])
    store.put_many({b"c": Score(3, 1)})
    assert set(store.get_many([b"a", b"b", b"c"])) == {b"a", b"c"}
    assert store.stats() == {"entries": 2, "bytes": 2 * ENTRY_BYTES, "hits": 3, "misses": 1}


def test_entries_expire() -> None:
    now = [0.0]
    store = MemoryStore(max_bytes=10_000, ttl_s=5, clock=lambda: now[0])
    store.put_many({b"a": Score(1, 1)})
    now[0] = 4.9
    assert store.get_many([b"a"]) == {b"a": Score(1, 1)}
    now[0] = 5.1
    assert store.get_many([b"a"]) == {}
    assert store.stats()["entries"] == 0


@pytest.mark.parametrize("store", [NullStore(), MemoryStore(0, 60)])
def test_a_store_without_room_keeps_nothing(store: NullStore | MemoryStore) -> None:
    store.put_many({b"a": Score(1, 1)})
    assert store.get_many([b"a"]) == {}
