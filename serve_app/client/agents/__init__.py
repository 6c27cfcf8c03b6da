"""The reranker as a tool for agents: one module per way of calling tools."""
