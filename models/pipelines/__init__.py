"""How several rankings become one, and how a ranking gets varied: no model, no service."""
