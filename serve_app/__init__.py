"""A reranking service: HTTP dialects, score store and Ray Serve deployments."""

__version__ = "0.1.0"
