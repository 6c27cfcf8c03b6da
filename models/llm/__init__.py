"""Language models as judges, over any chat endpoint of OpenAI's form."""
