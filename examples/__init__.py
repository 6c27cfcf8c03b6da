"""Example programs that use the reranking service."""
