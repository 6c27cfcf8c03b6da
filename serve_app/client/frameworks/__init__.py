"""Adapters for RAG frameworks, one module each."""
