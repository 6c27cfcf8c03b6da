"""The reranker as a part of RAG frameworks: a file for each."""
