"""Language models as judges, over any OpenAI-compatible chat endpoint."""
