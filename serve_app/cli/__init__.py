"""The `rerank` command."""
