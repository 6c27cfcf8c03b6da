"""Programs around the reranking service, to start from."""
