"""A local model hub with the part of the Hugging Face API that a download needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests import local_server

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving(name: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve `folder` as the model `name`; yields the endpoint and a list of requested paths."""
    requested: list[str] = []

    class Handler(local_server.QuietHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = urlsplit(self.path).path
            requested.append(path)
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
                tag = f'"{_oid(file)}"'
                content = file.read_bytes()
                self.send(200, content, body=body, x_repo_commit=COMMIT, etag=tag)
            else:
                self.send(404, b"{}", body=body, x_error_code="RepoNotFound")

        def _json(self, content: object, body: bool) -> None:
            self.send(200, json.dumps(content).encode(), body=body, x_repo_commit=COMMIT)

    with local_server.serving(Handler) as url:
        yield url, requested


def _oid(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
