"""Tokenising with a fast tokenizer, without reading more of a text than the model does.

A tokenizer takes about a microsecond and several hundred bytes per character, and truncates only
afterwards. `TextTokenizer.head` therefore cuts the characters first, where the tokens that are kept
provably cannot depend on what follows.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from models.concurrency import checkpoint
from models.types import ModelLoadError

# Characters that are tokenised first, per token that is needed. English has about 4.5.
CHARS_PER_TOKEN = 8
MIN_HEAD_CHARS = 256
# Each further attempt reads that many times more characters.
GROWTH = 4
# The maximum: of a text whose first characters give too few tokens, or none that are settled, such
# as a million control characters, the rest is not read.
MAX_CHARS = 2**20
# Words and characters at the end of a head whose tokens may depend on what follows. The rules that
# split text into words look at most one character, or to the end of one run of characters, ahead.
UNSETTLED_WORDS = 8
UNSETTLED_CHARS = 64
# Characters tokenised in one call: bounds the memory and the time between two checkpoints.
BATCH_CHARS = 65_536
# Of two texts that both have more tokens than this, the second one counts as the longer.
COUNTED_TOKENS = 4096
_WHOLE = 2**60
_Replace = str | Callable[[re.Match[str]], str]

_SAME = re.compile(r"(.)\1{511,}", re.DOTALL)
_WHITE_SPACE = re.compile(r"[ \t\n\r]{64,}")
# What BERT's normaliser removes: control characters, and accents after decomposition.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]{64,}")
_ACCENTS = re.compile(r"[\u0300-\u036f]{64,}")
# Letters and digits that BERT does not split at: all but ideographs.
_WORD = re.compile(
    r"[^\W_\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]{512,}", re.UNICODE
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The special tokens around the texts of a row, and all tokens' type ids.

    `parts`: special tokens before, between and after the texts, as (ids, type ids). `types`: the
    type id of each text's tokens.
    """

    parts: tuple[tuple[list[int], list[int]], ...]
    types: tuple[int, ...]

    @property
    def specials(self) -> int:
        """Number of special tokens."""
        return sum(len(ids) for ids, _ in self.parts)

    def row(self, texts: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
        """Ids and type ids of a row with these texts."""
        ids, types = list(self.parts[0][0]), list(self.parts[0][1])
        for text, kind, (more, more_types) in zip(texts, self.types, self.parts[1:], strict=True):
            ids += text
            types += [kind] * len(text)
            ids += more
            types += more_types
        return ids, types


@dataclass(slots=True)
class Spans:
    """Characters [start, end) of each token in a text. `more`: the text has further tokens."""

    starts: array[int] = field(default_factory=lambda: array("I"))
    ends: array[int] = field(default_factory=lambda: array("I"))
    more: bool = False

    def __len__(self) -> int:
        return len(self.starts)


class TextTokenizer:
    """A tokenizer's backend as the families use it. Keeps no state, so threads may share it."""

    def __init__(self, tokenizer: Any) -> None:
        """Raises ModelLoadError if rows cannot be built from the texts' own tokens."""
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_padding()
        self._backend.no_truncation()
        self._from_left = getattr(tokenizer, "truncation_side", "right") == "left"
        self._single = self._layout(1)
        added = self._backend.get_added_tokens_decoder().values()
        self._unsettled = UNSETTLED_CHARS + max((len(token.content) for token in added), default=0)
        self._runs = list(self._collapsible())

    def ids(self, texts: Iterable[str], tokens: int) -> Iterator[tuple[list[int], bool]]:
        """Each text's first `tokens` ids without special tokens, and whether there are more."""
        for batch in self._batches(texts, tokens):
            heads = [head for head, _ in batch]
            encodings = self._backend.encode_batch_fast(heads, add_special_tokens=False)
            for encoding, (_, cut) in zip(encodings, batch, strict=True):
                yield encoding.ids[:tokens], cut or len(encoding) > tokens

    def rows(
        self, texts: Iterable[str], max_length: int
    ) -> Iterator[tuple[list[int], list[int], bool]]:
        """Each text's row: ids and type ids with special tokens, and whether it was truncated."""
        room = max(0, max_length - self._single.specials)
        # What a tokenizer keeps when truncating on the left depends on the whole text.
        for ids, cut in self.ids(texts, _WHOLE if self._from_left else room):
            kept = ids[max(0, len(ids) - room) :] if self._from_left else ids
            yield *self._single.row([kept]), cut or len(kept) < len(ids)

    def pairs(
        self, query: str, documents: Sequence[str], max_length: int
    ) -> Iterator[tuple[list[int], list[int], bool]]:
        """As `rows`, of the query with each document, truncating the longer text first.

        The same as `tokenizer([query] * n, documents, truncation="longest_first")`, except that of
        two texts with more than COUNTED_TOKENS tokens the document counts as the longer one, which
        moves one token from one to the other.
        """
        room = max(0, max_length - self._pair.specials)
        asked, query_cut = next(self.ids([query], room))
        counted = _Count(self, query)
        for document, (ids, cut) in zip(documents, self.ids(documents, room), strict=True):
            first, second = len(asked) + query_cut, len(ids) + cut
            if room % 2 and query_cut and cut:
                # The odd token goes to the longer one.
                first, second = counted.tokens, _Count(self, document).tokens
            kept = _longest_first(first, second, room)
            row = self._pair.row([asked[: kept[0]], ids[: kept[1]]])
            yield *row, first + second > room

    def spans(self, text: str, tokens: int) -> Spans:
        """Where in the text its first `tokens` tokens are, without special tokens.

        Reads the text in parts. Where a word is longer than a part, the parts are tokenised as if
        they were texts of their own.
        """
        size = min(BATCH_CHARS, tokens * CHARS_PER_TOKEN + MIN_HEAD_CHARS)
        found, start = Spans(), 0
        while start < len(text):
            checkpoint()
            part = text[start : start + size]
            (encoding,) = self._backend.encode_batch([part], add_special_tokens=False)
            offsets = encoding.offsets
            count, end = len(offsets), len(part)
            if start + len(part) < len(text):
                place = self._next_part(part, encoding)
                if place is None and size < BATCH_CHARS:
                    size = BATCH_CHARS
                    continue
                count, end = place or self._any_part(part, encoding)
            found.starts.extend(start + first for first, _ in offsets[:count])
            found.ends.extend(start + last for _, last in offsets[:count])
            start += end
            if len(found.starts) > tokens:
                del found.starts[tokens:], found.ends[tokens:]
                found.more = True
                break
        return found

    def _next_part(self, part: str, encoding: Any) -> tuple[int, int] | None:
        """Tokens and characters up to a word in the part from which the text can be read on."""
        words, offsets = encoding.word_ids, encoding.offsets
        last = next((word for word in reversed(words) if word is not None), 0)
        for i in range(len(words) - 1, 0, -1):
            place = offsets[i][0]
            new = words[i] is not None and words[i] != words[i - 1] and offsets[i - 1][1] <= place
            settled = last - (words[i] or 0) >= UNSETTLED_WORDS
            if new and settled and 0 < place < len(part) - self._unsettled:
                rest = self._backend.encode(part[place:], add_special_tokens=False)
                return (i, place) if rest.ids == encoding.ids[i:] else None
        return None

    def _any_part(self, part: str, encoding: Any) -> tuple[int, int]:
        """The same up to some token, for text that is not split into words."""
        offsets = encoding.offsets
        for i in range(len(offsets) - 1, 0, -1):
            place = offsets[i][0]
            if offsets[i - 1][1] <= place and 0 < place < len(part) - self._unsettled:
                return i, place
        return len(offsets), len(part)

    def head(self, text: str, tokens: int) -> tuple[str, bool]:
        """The text, or a shorter one with the same first `tokens` ids; whether it was cut."""
        end = tokens * CHARS_PER_TOKEN + MIN_HEAD_CHARS
        most = max(MAX_CHARS, end)
        while end < len(text):
            checkpoint()
            head = self._collapse(text[:end])
            # Unlike `encode`, `encode_batch` releases the interpreter's lock.
            (encoding,) = self._backend.encode_batch([head], add_special_tokens=False)
            if len(encoding) > tokens and self._settled(head, encoding, tokens, len(text)):
                return head, True
            if end == most:
                return head, True
            end = min(end * GROWTH, most)
        return self._collapse(text), False

    def _batches(self, texts: Iterable[str], tokens: int) -> Iterator[list[tuple[str, bool]]]:
        batch: list[tuple[str, bool]] = []
        chars = 0
        for text in texts:
            head = self.head(text, tokens)
            if batch and chars + len(head[0]) > BATCH_CHARS:
                yield batch
                checkpoint()
                batch, chars = [], 0
            batch.append(head)
            chars += len(head[0])
        if batch:
            yield batch

    def _settled(self, head: str, encoding: Any, tokens: int, length: int) -> bool:
        """Whether the first `tokens` + 1 ids do not depend on what follows the head."""
        words = encoding.word_ids
        last = next((word for word in reversed(words) if word is not None), None)
        here = words[tokens]
        if last is not None and here is not None and last - here >= UNSETTLED_WORDS:
            return bool(encoding.offsets[tokens][1] <= len(head) - self._unsettled)
        return self._settled_in_word(head, encoding.ids, tokens, length)

    def _settled_in_word(self, head: str, ids: list[int], tokens: int, length: int) -> bool:
        """The same within the head's last word, of BPE and Unigram models.

        The tokens of the whole word up to the end of any of its tokens are those of the word's
        start up to there: BPE never merged across that end, and a Viterbi path has the best path to
        each of its nodes. Some token ends within any stretch that is longer than the tokens in it.
        So what the starts up to each place of such a stretch have in common, the whole word has.
        """
        model = self._backend.model
        if type(model).__name__ not in ("BPE", "Unigram"):
            return False
        normal = head
        if self._backend.normalizer is not None:
            normal = self._backend.normalizer.normalize_str(head)
        words = [normal]
        if self._backend.pre_tokenizer is not None:
            words = [word for word, _ in self._backend.pre_tokenizer.pre_tokenize_str(normal)]
        before = [token.id for word in words[:-1] for token in model.tokenize(word)]
        word = words[-1]
        own = [token.id for token in model.tokenize(word)]
        # They differ if there are added tokens in the text.
        if before + own != ids or len(before) > tokens:
            return False
        needed = tokens + 1 - len(before)
        end = min(len(word) - self._unsettled, len(word) * (needed + 16) * 5 // (4 * len(own)))
        reach = self._longest_in(word[max(0, end - 2 * self._longest) : end])
        if end <= reach or end * reach > 2 * length:
            return False
        for place in range(end - reach, end):
            checkpoint()
            if [token.id for token in model.tokenize(word[: place + 1])][:needed] != own[:needed]:
                return False
        return True

    @cached_property
    def _longest(self) -> int:
        """Characters of the vocabulary's longest entry."""
        return max(map(len, self._vocabulary))

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        vocabulary: dict[str, int] = self._backend.get_vocab(with_added_tokens=False)
        return vocabulary

    def _longest_in(self, stretch: str) -> int:
        """Characters of the longest token in the stretch."""
        for size in range(min(self._longest, len(stretch)), 1, -1):
            if any(stretch[i : i + size] in self._vocabulary for i in range(len(stretch) - size)):
                return size
        return 1

    def _collapse(self, text: str) -> str:
        """Shorten long runs of characters of which the tokenizer keeps nothing or the same."""
        for run, kept in self._runs:
            text = run.sub(kept, text)
        return text

    def _repeated(self, match: re.Match[str]) -> str:
        """A run of one character, shortened if it is removed or becomes one unknown token."""
        lengths = (64, 65, 512, 1021)
        short, *longer = (f"a{match[1] * length}b" for length in lengths)
        return match[1] * 64 if all(self._same(short, run) for run in longer) else match[0]

    def _collapsible(self) -> Iterator[tuple[re.Pattern[str], _Replace]]:
        yield _SAME, self._repeated
        runs = (" " * 64, "\n" * 64, "\t" * 65, "\r" * 66, " \t\n\r" * 20)
        if all(
            self._same(f"a{run}b", "a b") and self._same(f"{run}b", " b") and self._same(run, " ")
            for run in runs
        ):
            yield _WHITE_SPACE, " "
        if not self._is_bert:
            return
        if self._same("a" + "\x00\x1b\x7f" * 30 + "b", "ab"):
            yield _CONTROL, ""
        if self._same("a" + "\u0300\u0336\u036f" * 30 + "b", "ab"):
            yield _ACCENTS, ""
        # Longer words are all the unknown token.
        if self._backend.model.max_input_chars_per_word <= 128:
            yield _WORD, lambda match: match[0][:256]

    @property
    def _is_bert(self) -> bool:
        """WordPiece over the words of BERT's own rules."""
        parts = json.loads(self._backend.to_str())
        return (
            parts["model"].get("type") == "WordPiece"
            and (parts["pre_tokenizer"] or {}).get("type") == "BertPreTokenizer"
            and '"BertNormalizer"' in json.dumps(parts["normalizer"])
        )

    def _same(self, one: str, other: str) -> bool:
        first, second = (self._backend.encode(t, add_special_tokens=False) for t in (one, other))
        return bool(first.ids == second.ids)

    @cached_property
    def _pair(self) -> Layout:
        return self._layout(2)

    def _layout(self, texts: int) -> Layout:
        """The tokenizer's special tokens, from rows of short texts."""
        samples = [("a", "b"), ("a b c d", "b a c d e b")]
        rows = []
        for sample in samples:
            parts = [self._backend.encode(t, add_special_tokens=False) for t in sample[:texts]]
            rows.append((parts, self._backend.encode(*sample[:texts])))
        layout = _read_layout(rows[0][1], texts)
        for parts, row in rows:
            if layout is None or layout.row([p.ids for p in parts]) != (row.ids, row.type_ids):
                raise ModelLoadError(
                    "the tokenizer does not put texts and special tokens into a row one after "
                    "the other, which is not supported"
                )
        assert layout is not None
        return layout


class _Count:
    """The number of a text's tokens, at most COUNTED_TOKENS + 1, counted when it is needed."""

    def __init__(self, tokenizer: TextTokenizer, text: str) -> None:
        self._tokenizer, self._text = tokenizer, text

    @cached_property
    def tokens(self) -> int:
        ids, cut = next(self._tokenizer.ids([self._text], COUNTED_TOKENS))
        return len(ids) + cut


def _read_layout(row: Any, texts: int) -> Layout | None:
    """The layout of a row whose texts are `texts` in number; None if they are not in order."""
    parts: list[tuple[list[int], list[int]]] = [([], [])]
    types: list[int] = []
    previous: int | None = None
    for token, kind, text in zip(row.ids, row.type_ids, row.sequence_ids, strict=True):
        if text is None:
            parts[-1][0].append(token)
            parts[-1][1].append(kind)
        elif text != previous:
            if text != len(types):
                return None
            types.append(kind)
            parts.append(([], []))
            previous = text
    return Layout(tuple(parts), tuple(types)) if len(types) == texts else None


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Numbers of tokens that are kept of two texts, as the tokenizers library truncates them."""
    if first + second <= room:
        return first, second
    short, long = min(first, second), max(first, second)
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short = room // 2
        long = short + room % 2
    return (short, long) if first <= second else (long, short)
