"""Retrieval-augmented generation in plain Python: retrieve, fuse, rerank, diversify, answer.

    python -m examples.rag "how do I shorten a text to a width?"

answers a question from the docstrings of Python's standard library, using the reranking service
on this machine.
"""
