"""The reranker as a tool of agents: a file for each way that agents call tools."""
