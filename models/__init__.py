"""Scores (query, document) pairs. Independent of Ray and HTTP."""
