"""A model hub on this machine: the part of the Hugging Face API that a download needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving(name: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve `folder` as the model `name`; gives the endpoint and the paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = urlsplit(self.path).path
            asked.append(path)
            files = {str(f.relative_to(folder)): f for f in folder.rglob("*") if f.is_file()}
            resolve = f"/{name}/resolve/{COMMIT}/"
            if path.startswith(f"/api/models/{name}/revision/"):
                siblings = [{"rfilename": file} for file in files]
                self._json({"id": name, "sha": COMMIT, "siblings": siblings}, body)
            elif path.startswith(f"/api/models/{name}/tree/"):
                entries = [
                    {"type": "file", "path": file, "size": f.stat().st_size, "oid": _oid(f)}
                    for file, f in files.items()
                ]
                self._json(entries, body)
            elif path.startswith(resolve) and path.removeprefix(resolve) in files:
                file = files[path.removeprefix(resolve)]
                self._send(200, file.read_bytes(), body, ETag=f'"{_oid(file)}"')
            else:
                self._send(404, b"{}", body, **{"X-Error-Code": "RepoNotFound"})

        def _json(self, content: object, body: bool) -> None:
            self._send(200, json.dumps(content).encode(), body)

        def _send(self, status: int, content: bytes, body: bool, **headers: str) -> None:
            self.send_response(status)
            headers = {"X-Repo-Commit": COMMIT, "Content-Length": str(len(content)), **headers}
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()


def _oid(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
