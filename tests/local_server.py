"""An HTTP server on this machine, for tests of what calls one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class QuietHandler(BaseHTTPRequestHandler):
    """A handler that logs nothing and answers in one call."""

    protocol_version = "HTTP/1.1"
    # Headers and body are two packets; the second must not wait for the first's receipt.
    disable_nagle_algorithm = True

    def send(self, status: int, content: bytes, *, body: bool = True, **headers: str) -> None:
        """Header names have underscores for hyphens."""
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
    """The server's URL; nothing listens there any more once the block is left."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    # How often it looks whether it shall stop: each test waits for that.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
