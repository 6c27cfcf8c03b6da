"""Relevant spans: the sentences of a document that match the query, scored by the same model.

With late interaction, a sentence's score is computed from the similarities of its own tokens to
those of the query. The sentences go through the score store like any other documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

from models.concurrency import in_thread_if, yielding
from models.types import ModelInfo, relevance
from serve_app.errors import InvalidRequest
from serve_app.service.ranking import LARGE_CHARS
from serve_app.types import RankedDocument, RelevantSpan, RerankRequest, RerankResult, SpanOptions

# Maximum number of sentences per request.
MAX_SENTENCES = 10_000
# A sentence ends after a full stop (or ! ? …) and closing quotes, unless the next word starts with
# a lower-case letter or digit ("e.g. this", "No. 5"); after a full-width stop; and at line ends.
# A run of full stops is matched as a whole or not at all, so that the search takes linear time.
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?=\s++[^\sa-z\d])|[。！？]++[”’」』）]*+|\n++")


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each sentence in code points, without surrounding white space."""
    start = 0
    for end in chain((match.end() for match in _END.finditer(text)), (len(text),)):
        piece = text[start:end]
        if inner := piece.strip():
            first = start + len(piece) - len(piece.lstrip())
            yield first, first + len(inner)
        start = end


@dataclass(frozen=True, slots=True)
class Sentences:
    """The sentences of a result's documents.

    `places`: each sentence's document index, start and end.
    """

    places: Sequence[tuple[int, tuple[int, int]]]
    texts: tuple[str, ...]

    @classmethod
    async def of(cls, result: RerankResult, request: RerankRequest) -> Sentences:
        """Split the documents. Raises InvalidRequest if they have too many sentences."""
        texts = {r.index: text for r in result.results if (text := _text(request, r.index))}
        large = sum(map(len, texts.values())) > LARGE_CHARS
        return await in_thread_if(large, cls._of, texts)

    @classmethod
    def _of(cls, texts: Mapping[int, str]) -> Sentences:
        found = ((i, span) for i, text in texts.items() for span in sentences(text))
        places = list(islice(found, MAX_SENTENCES + 1))
        if len(places) > MAX_SENTENCES:
            raise InvalidRequest(
                f"the documents have more than {MAX_SENTENCES} sentences, the maximum for "
                "relevant_spans in one request: lower top_n",
                param="relevant_spans",
            )
        return cls(places, tuple([texts[i][start:end] for i, (start, end) in places]))

    def request(self, request: RerankRequest) -> RerankRequest:
        """Return a request that scores each sentence as a separate document."""
        return replace(
            request,
            documents=self.texts,
            originals=None,
            top_n=None,
            sort=False,
            truncate=True,
            relevant_spans=None,
            options=replace(
                request.options, max_tokens_per_doc=None, long_document="truncate", explain=False
            ),
        )

    async def add_spans(
        self, result: RerankResult, scored: RerankResult, options: SpanOptions, info: ModelInfo
    ) -> RerankResult:
        """Return the result with relevant spans, including the tokens used to score them."""
        by_document: dict[int, list[RelevantSpan]] = {}
        pairs = zip(self.places, scored.results, strict=True)
        async for (i, (start, end)), sentence in yielding(pairs):
            score = _unit(sentence.logit, info)
            if score >= options.threshold:
                by_document.setdefault(i, []).append(RelevantSpan(start, end, score))
        timings = dict(result.timings_ms)
        timings["spans"] = scored.timings_ms["total"]
        timings["total"] += timings["spans"]
        return replace(
            result,
            results=tuple(
                [
                    _with(r, by_document.get(r.index, ()), options)
                    async for r in yielding(result.results)
                ]
            ),
            tokens=result.tokens + scored.tokens,
            cached_tokens=result.cached_tokens + scored.cached_tokens,
            timings_ms=timings,
        )


def _text(request: RerankRequest, index: int) -> str | None:
    document = request.documents[index]
    return document if isinstance(document, str) else None


def _unit(logit: float, info: ModelInfo) -> float:
    """Return a span's score in [0, 1], whatever the range of the model's own scores."""
    return relevance(logit, "sigmoid" if info.activation == "identity" else info.activation)


def _with(
    ranked: RankedDocument, spans: Sequence[RelevantSpan], options: SpanOptions
) -> RankedDocument:
    best_first = sorted(spans, key=lambda span: (-span.score, span.start))
    return replace(ranked, relevant_spans=tuple(best_first[: options.max_spans]))
