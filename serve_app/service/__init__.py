"""A request's way to its answer in plain asyncio: no HTTP and no Ray."""
