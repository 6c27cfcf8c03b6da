"""Score requests from standard input with infinity-emb, in the Python environment that has it.

Run by `benchmarks.engines`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from infinity_emb import AsyncEmbeddingEngine, EngineArgs


async def main(path: str, dtype: str) -> None:
    """Read JSON lines of query and documents, and write JSON lines of raw scores."""
    # infinity-emb logs to standard output: send that to standard error instead.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    arguments = EngineArgs(
        model_name_or_path=path,
        engine="torch",
        device="cpu",
        dtype=dtype,
        bettertransformer=False,
        model_warmup=False,
    )
    engine = AsyncEmbeddingEngine.from_args(arguments)
    async with engine:
        for line in sys.stdin:
            request = json.loads(line)
            results, _ = await engine.rerank(
                query=request["query"], docs=request["documents"], raw_scores=True
            )
            scores = [0.0] * len(results)
            for result in results:
                scores[result.index] = float(result.relevance_score)
            answers.write(json.dumps(scores) + "\n")
            answers.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
