"""A local HTTP server, for testing clients."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class QuietHandler(BaseHTTPRequestHandler):
    """A handler that logs nothing and sends a response with one call."""

    protocol_version = "HTTP/1.1"
    # Headers and body are two packets; the second must not wait for the first's ACK.
    disable_nagle_algorithm = True

    def send(self, status: int, content: bytes, *, body: bool = True, **headers: str) -> None:
        """Send a response. Underscores in header names become hyphens."""
        self.send_response(status)
        for name, value in {"content_length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        return None


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a server and yield its URL; the server is stopped when the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    # Poll interval for shutdown, which delays the end of each test.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
