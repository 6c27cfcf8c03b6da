"""The prompts of decoder rerankers, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a (query, document) pair becomes a prompt, and which tokens are its answers.

    The row consists of `prefix`, query part, `separator`, document part and `suffix`, each
    tokenised separately. `limit` says what the maximum length covers: the whole `row`, the `pair`
    (query, separator and document), or `pair-suffix`, a pair that may be longer by the length of
    the suffix. If `cuts_query`, the query part gets at most three quarters of it. `yes` and `no`
    are the answers, read by their first token; without `no` the score is the logit of `yes`.
    """

    name: str
    prefix: str
    query: str
    separator: str
    document: str
    suffix: tuple[str, ...]
    yes: str
    no: str | None
    max_length: int
    limit: str
    cuts_query: bool
    instruction: str | None = None
    query_with_instruction: str | None = None
    starts_with_bos: bool = False


# https://huggingface.co/Qwen/Qwen3-Reranker-0.6B, "Transformers Usage". There, query and document
# are tokenised as one text; the tokens are the same, because the tokenizer splits at the space
# before the document.
QWEN3 = Recipe(
    name="qwen3",
    prefix=(
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
        'and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
        "<|im_start|>user\n"
    ),
    query="<Instruct>: {instruction}\n<Query>: {query}\n<Document>:",
    separator="",
    document=" {document}",
    suffix=("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",),
    yes="yes",
    no="no",
    max_length=8192,
    limit="row",
    cuts_query=False,
    instruction="Given a web search query, retrieve relevant passages that answer the query",
)

# The package mxbai-rerank 0.1.6, class MxbaiRerankV2.
MXBAI = Recipe(
    name="mxbai",
    prefix=(
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
        "<|im_end|>\n<|im_start|>user\n"
    ),
    query="query: {query}",
    query_with_instruction="instruction: {instruction}\nquery: {query}",
    separator="\n",
    document="document: {document}",
    suffix=(
        "\n",
        "You are a search relevance expert who evaluates how well documents match search "
        "queries. For each query-document pair, carefully analyze the semantic relationship "
        "between them, then provide your binary relevance judgment (0 for not relevant, 1 for "
        "relevant).\nRelevance:",
        "<|im_end|>\n<|im_start|>assistant\n",
    ),
    yes="1",
    no="0",
    max_length=8192,
    limit="pair",
    cuts_query=True,
)

# https://huggingface.co/BAAI/bge-reranker-v2-gemma, and FlagEmbedding 1.4's BaseLLMReranker.
BGE = Recipe(
    name="bge",
    prefix="",
    query="A: {query}",
    separator="\n",
    document="B: {document}",
    suffix=("\n", "{instruction}"),
    yes="Yes",
    no=None,
    max_length=1024,
    limit="pair-suffix",
    cuts_query=True,
    instruction=(
        "Given a query A and a passage B, determine whether the passage contains an answer to "
        "the query by providing a prediction of either 'Yes' or 'No'."
    ),
    starts_with_bos=True,
)

RECIPES = {recipe.name: recipe for recipe in (QWEN3, MXBAI, BGE)}
# The default recipe by the config's model type.
BY_MODEL_TYPE = {"qwen3": QWEN3, "qwen2": MXBAI, "gemma": BGE, "minicpm": BGE}
