"""Tokenising only the start of a text: the same ids as the tokenizer's own, with bounded work."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from models import embedded, tokenizing
from models.concurrency import at_checkpoints
from models.tokenizing import TextTokenizer
from tests.models.checkpoints import tiny_xlmr_cross_encoder
from tests.models.decoder_checkpoints import tokenizer as byte_level
from tests.models.t5_checkpoints import t5

KINDS = ("wordpiece", "unigram", "metaspace", "byte-level", "sentencepiece")
PIECES = [
    *("a", "b", "hello", "pandas", "Bamboo", "42", "1234567890123", "don't", "we'll", "été", "İ"),
    *(" ", " ", " ", "  ", "\n", "\r\n", "\t", " \n \n", "\u3000", "\u00a0", "\x00", "\u200b"),
    *(
        "!",
        "?!",
        "...",
        "-----",
        "(",
        "猫",
        "魚を食べる。",
        "水火",
        "مرحبا",
        "שלום",
        "नमस्ते",
        "안녕",
    ),
    *(
        "e\u0301",
        "\u0301\u0327",
        "👩\u200d👩\u200d👧",
        "🏳️",
        "ﬁ",
        "①",
        "Ａ",
        "[MASK]",
        "</s>",
        "<s>",
    ),
    *("a" * 40, "ab" * 60, "=" * 33, "▁", "▁▁a", "<|im_start|>", "x▁y", "don", "'", "l"),
]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp(request.param)
    if request.param == "wordpiece":
        return AutoTokenizer.from_pretrained(embedded.folder())
    if request.param == "sentencepiece":
        return _sentencepiece()
    makers = {"unigram": tiny_xlmr_cross_encoder, "metaspace": t5, "byte-level": byte_level}
    makers[request.param](path)
    return AutoTokenizer.from_pretrained(path)


def _sentencepiece() -> Any:
    """A BPE over the whole text, without words, as Gemma and Llama have it."""
    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>", "<s>", *bytes_], show_progress=False
    )
    bpe.train_from_iterator(["hello pandas bamboo eat a " * 3, "ab" * 40, "aaaa aaa aa"], trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B:1", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="<unk>", bos_token="<s>")


def _texts(seed: int, count: int = 60, longest: int = 3000) -> Iterator[str]:
    """Texts of one piece repeated, of a few pieces and of all pieces, short and long."""
    chance = random.Random(seed)
    for _ in range(count):
        some = chance.sample(PIECES, chance.choice((1, 2, 3, len(PIECES))))
        size = min(longest, chance.choice((0, 3, 40, 400, 3000)))
        text = "".join(chance.choices(some, k=size))
        yield chance.choice(("", "a ", " ", "\n")) + text + chance.choice(("", " end", "  "))


@pytest.mark.parametrize("limit", [1, 7, 30])
def test_ids_are_the_first_of_the_whole_text(tokenizer: Any, limit: int) -> None:
    reader = TextTokenizer(tokenizer)
    texts = list(_texts(limit))
    for text, (ids, cut) in zip(texts, reader.ids(texts, limit), strict=True):
        whole = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        assert (ids, cut) == (whole[:limit], len(whole) > limit), text[:80]


@pytest.mark.parametrize("max_length", [9, 16, 31])
def test_rows_are_those_of_the_tokenizer(tokenizer: Any, max_length: int) -> None:
    texts = list(_texts(max_length))
    rows = list(TextTokenizer(tokenizer).rows(texts, max_length))
    expected = tokenizer(texts, truncation=True, max_length=max_length, return_token_type_ids=True)
    assert [row[0] for row in rows] == expected["input_ids"]
    assert [row[1] for row in rows] == expected["token_type_ids"]
    assert [row[2] for row in rows] == [bool(e.overflowing) for e in expected.encodings]


@pytest.mark.parametrize("max_length", [24, 31, 32])
def test_pairs_are_those_of_the_tokenizer(tokenizer: Any, max_length: int) -> None:
    # Short ones: the tokenizer itself makes rows of every part of the query with every part of
    # the document, which takes gigabytes for long texts.
    documents = list(_texts(max_length, 15, longest=50))
    for query in _texts(max_length + 1, 5, longest=50):
        rows = list(TextTokenizer(tokenizer).pairs(query, documents, max_length))
        expected = tokenizer(
            [query] * len(documents),
            documents,
            truncation="longest_first",
            max_length=max_length,
            return_token_type_ids=True,
        )
        assert [row[0] for row in rows] == expected["input_ids"]
        assert [row[1] for row in rows] == expected["token_type_ids"]
        assert [row[2] for row in rows] == [bool(e.overflowing) for e in expected.encodings]
    TextTokenizer(tokenizer)  # removes the truncation that the calls above have set


@pytest.mark.parametrize(
    "piece", ["!", "a", "word ", " ", "\x00", "\u0301", "猫狗", "a!", "ü", "\n"]
)
def test_a_long_text_costs_no_more_than_its_start(tokenizer: Any, piece: str) -> None:
    reader = TextTokenizer(tokenizer)
    text = piece * (3_000_000 // len(piece))
    read = _read_chars(reader, text)
    assert read < 200_000, f"{read} characters of {piece!r} were tokenised"


def _read_chars(reader: TextTokenizer, text: str) -> int:
    """Characters that are tokenised to get the text's first 100 ids."""
    backend, read = reader._backend, []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(backend, name)

        def encode_batch(self, texts: list[str], **options: Any) -> Any:
            read.append(sum(map(len, texts)))
            return backend.encode_batch(texts, **options)

        def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
            read.append(sum(map(len, texts)))
            return backend.encode_batch_fast(texts, **options)

    reader._backend = Counting()
    next(reader.ids([text], 100))
    return sum(read)


def test_of_a_text_without_tokens_only_the_start_is_read(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizing, "MAX_CHARS", 4000)
    reader = TextTokenizer(tokenizer)
    # Neither a run of one character nor words: nothing of it is settled.
    text = "\x00\x01\x02" * 5000 + "word " * 5000
    _, cut = next(reader.ids([text], 100))
    assert cut
    assert _read_chars(reader, text) < 30_000


def test_long_work_is_interrupted_between_batches_of_documents(tokenizer: Any) -> None:
    class Cancelled(Exception): ...

    calls = []

    def cancel() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Cancelled

    rows = TextTokenizer(tokenizer).rows(("some words " * 3000 for _ in range(1000)), 4000)
    with at_checkpoints(cancel), pytest.raises(Cancelled):
        list(rows)
    assert len(calls) == 3


def test_text_is_truncated_on_the_left_if_the_tokenizer_says_so() -> None:
    tokenizer = AutoTokenizer.from_pretrained(embedded.folder(), truncation_side="left")
    texts = list(_texts(5))
    rows = list(TextTokenizer(tokenizer).rows(texts, 12))
    expected = tokenizer(texts, truncation=True, max_length=12)
    assert [row[0] for row in rows] == expected["input_ids"]


def test_spans_are_the_offsets_in_the_whole_text(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = tokenizer.backend_tokenizer.pre_tokenizer is not None
    monkeypatch.setattr(tokenizing, "BATCH_CHARS", 700 if splits else 10_000)
    reader = TextTokenizer(tokenizer)
    chance = random.Random(3)
    words = ["hello", "pandas", "don't", "a", "été", "42", "x!", "猫", "\n"]
    for tokens in (40, 300, 5000):
        text = " ".join(chance.choices(words, k=1500))
        spans = reader.spans(text, tokens)
        offsets = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).offsets
        found = list(zip(spans.starts, spans.ends, strict=True))
        assert found == offsets[:tokens]
        assert spans.more == (len(offsets) > tokens)


@pytest.mark.parametrize("piece", ["!", "a", " ", "\x00", "猫狗"])
def test_spans_of_any_text_are_found_in_parts(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, piece: str
) -> None:
    monkeypatch.setattr(tokenizing, "BATCH_CHARS", 500)
    parts: list[int] = []
    with at_checkpoints(lambda: parts.append(1)):
        spans = TextTokenizer(tokenizer).spans(piece * 10_000, 100_000)
    assert 10 < len(parts) < 100
    assert not spans.more
    assert list(spans.starts) == sorted(spans.starts)
