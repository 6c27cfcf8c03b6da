"""The reranking service: HTTP dialects, the score store and the Ray Serve deployments."""

__version__ = "0.1.0"
