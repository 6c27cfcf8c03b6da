"""Everything between a parsed request and its result, in plain asyncio: no HTTP and no Ray."""
