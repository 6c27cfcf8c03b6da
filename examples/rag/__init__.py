"""Retrieval-augmented answers in plain Python: retrieve, fuse, rerank, diversify, answer.

    python -m examples.rag "how do I shorten a text to a width?"

asks the docstrings of Python's own library, with the reranking service on this machine.
"""
