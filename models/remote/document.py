"""The table of docs/providers.md, made from the providers' rows."""

from __future__ import annotations

from models.remote.providers import PROVIDERS
from models.remote.types import Provider, Scale

_SCALES: dict[Scale, str] = {
    "probability": "unchanged",
    "cosine": "clipped to [0, 1]",
    "logit": "sigmoid",
}


def table() -> str:
    """The Markdown table, one row per provider."""
    rows = [
        "| `provider` | name | form | URL | default key | scores | limits per call |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in PROVIDERS.values():
        address = f"`{row.base}{row.path}`" if row.base else f"`base_url` + `{row.path}`"
        scores = "in [0, 1]" if row.form == "chat" else _SCALES[row.scale]
        cells = (
            f"`{row.name}`",
            f"[{row.title}]({row.documentation})" if row.documentation else row.title,
            f"`{row.form}`",
            address,
            f"`{row.key_env}`" if row.key_env else "none",
            scores,
            _limits(row),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _limits(row: Provider) -> str:
    if row.form == "chat":
        return "set by `judge`"
    limits = [f"{row.max_documents:,} documents"]
    if row.max_tokens:
        limits.append(f"{row.max_tokens:,} tokens")
        limits += [f"{n:,} for {model}…" for model, n in row.tokens_by_model.items()]
    if row.max_document_chars:
        limits.append(f"{row.max_document_chars:,} characters per document")
    return ", ".join(limits)
