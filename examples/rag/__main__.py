"""Answer a question from the docstrings of Python's standard library."""

from __future__ import annotations

import argparse
import os

from examples.rag.answers import ChatModel, Quotes
from examples.rag.corpus import docstrings
from examples.rag.pipeline import Rag
from examples.rag.protocols import Model
from examples.rag.stores import MemoryVectors, MiniLM
from serve_app.client import Reranker


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.rag", description=__doc__)
    parser.add_argument("question")
    parser.add_argument(
        "--url",
        default="http://127.0.0.1:8000",
        help="URL of the reranking service (default: %(default)s); "
        "its API key is read from RERANK_API_KEY",
    )
    parser.add_argument(
        "--llm-url",
        help="base URL of an OpenAI-compatible API; its key is read from OPENAI_API_KEY "
        "(default: no language model, the answer quotes the passages)",
    )
    parser.add_argument("--llm-model", default="default", help="model name for the LLM API")
    options = parser.parse_args()
    with Reranker(options.url, api_key=os.environ.get("RERANK_API_KEY"), tool="rag") as reranker:
        model: Model = Quotes(reranker)
        if options.llm_url:
            key = os.environ.get("OPENAI_API_KEY")
            model = ChatModel(options.llm_url, options.llm_model, key)
        rag = Rag(
            docstrings(),
            embedder=MiniLM(),
            store=MemoryVectors(),
            reranker=reranker,
            model=model,
        )
        answer = rag.ask(options.question)
    print(answer.text, "\n")
    for n, (passage, score) in enumerate(zip(answer.passages, answer.scores, strict=True), 1):
        print(f"[{n}] {score:.3f} {passage.id}")


if __name__ == "__main__":
    main()
