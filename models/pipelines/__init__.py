"""Ranking methods without a model: rank fusion, diversity and BM25."""
