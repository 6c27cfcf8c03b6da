"""HTTP: the routes, the middleware around them, and the wire formats that they speak."""
