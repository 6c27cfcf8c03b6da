"""HTTP: routes, middleware and wire formats."""
