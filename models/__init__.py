"""How a (query, document) pair becomes a score. Knows neither Ray nor HTTP."""
