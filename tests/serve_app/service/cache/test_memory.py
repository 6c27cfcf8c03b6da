"""Keys tell apart what scores apart; the memory tier keeps its bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from models.types import Score, ScoreOptions
from serve_app.service.cache import MemoryStore, NullStore, PairKeys
from serve_app.service.cache.memory import ENTRY_BYTES
from tests.serve_app.fakes import INFO


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x"},
        {"revision": "2"},
        {"max_length": 65},
        {"dtype": "bfloat16"},
        {"template": "qwen3"},
        {"detail": "layer 8"},
        {"instruction": "find"},
        {"max_tokens_per_doc": 9},
        {"long_document": "max_passage"},
    ],
)
def test_a_key_depends_on_the_model(change: dict[str, str]) -> None:
    assert PairKeys(INFO, "q").of("d") != PairKeys(replace(INFO, **change), "q").of("d")  # type: ignore[arg-type]


def test_no_two_pairs_read_the_same() -> None:
    pairs = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "")]
    assert len({PairKeys(INFO, q).of(d) for q, d in pairs}) == 4
    keys = PairKeys(INFO, "q")
    assert keys.of("d") == keys.of("d")


@pytest.mark.parametrize(
    "asked",
    [{"instruction": "find"}, {"max_tokens_per_doc": 9}, {"long_document": "max_passage"}],
)
def test_a_key_depends_on_what_the_request_asks(asked: dict[str, Any]) -> None:
    key = PairKeys(INFO, "q", ScoreOptions(**asked)).of("d")
    assert key != PairKeys(INFO, "q").of("d")
    # Asking for what is set already is not another score.
    assert key == PairKeys(replace(INFO, **asked), "q").of("d")


def test_a_listwise_key_depends_on_all_documents_and_their_order() -> None:
    def keys(*documents: str) -> list[bytes]:
        return PairKeys(INFO, "q").all(documents)

    assert keys("a", "b") == keys("a", "b")
    assert len({*keys("a", "a"), *keys("a", "b"), *keys("b", "a"), *keys("ab")}) == 7


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


def test_a_score_comes_back_as_it_was() -> None:
    store = MemoryStore(max_bytes=10_000, ttl_s=5)
    kept = {b"a": Score(-1.2345678901234567, 70_000, True, 12), b"b": Score(float("inf"), 0)}
    store.put_many(kept)
    assert store.get_many([b"a", b"b"]) == kept


@pytest.mark.parametrize("store", [NullStore(), MemoryStore(0, 60)])
def test_a_store_without_room_keeps_nothing(store: NullStore | MemoryStore) -> None:
    store.put_many({b"a": Score(1, 1)})
    assert store.get_many([b"a"]) == {}
