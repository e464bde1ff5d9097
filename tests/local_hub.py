"""A hub on 127.0.0.1: an HTTP server that answers the requests that `huggingface_hub` makes to download a snapshot.

Metadata of a repository and its tree come as JSON, small files directly, and weights by a redirect to a storage on
another host, with ranges, ETags and the headers by which the client learns commit, size and SHA-256. Faults are
switched on by the test: statuses, connections cut in the middle, and contents that are not those stated.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import huggingface_hub

COMMIT = "c0ffee" + "0" * 34

ERROR_CODES = {"gated": (403, "GatedRepo"), "private": (401, "RepoNotFound"), "no revision": (404, "RevisionNotFound")}


class Hub:
    """Repositories of one commit each.

    Attributes:
        repositories: Name → path → content.
        requests: Method, path and Range of every request so far.
        fault: Error of `ERROR_CODES`, or a status, that every file answers; of a number, the metadata too.
        cut: Paths whose first transfer ends in the middle.
        sent: Path → content that is sent in place of the stated one.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.fault: str | int | None = None
        self.cut: set[str] = set()
        self.sent: dict[str, bytes] = {}
        self.endpoint = ""

    def transfers(self) -> list[str]:
        """Paths of the files whose content was requested."""
        return [path for method, path, _ in self.requests if method == "GET" and path.startswith("/storage/")]

    def ranges(self) -> list[str]:
        """Ranges that were requested."""
        return [part for _, _, part in self.requests if part]


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """Serve a hub, and give its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        yield hub.endpoint
    finally:
        server.shutdown()
        server.server_close()


def connect(monkeypatch, endpoint: str, cache) -> None:
    """Let `huggingface_hub` of this process use a hub, with an empty cache and without waiting."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda seconds: None)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def log_message(self, *arguments) -> None:
        pass

    def answer(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            self.metadata(match[1], match[2], match[3], with_body)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(match[1], match[3])
        elif match := re.fullmatch(r"/storage/([^/]+/[^/]+)/(.+)", path):
            self.content(match[1], match[2], with_body)
        else:
            self.error(404, "")

    def metadata(self, repository: str, kind: str | None, revision: str | None, with_body: bool) -> None:
        files = self.hub.repositories.get(repository)
        if isinstance(self.hub.fault, int):
            return self.error(self.hub.fault, "")
        if self.hub.fault == "html":
            return self.send(200, {"Content-Type": "text/html"}, b"<html>Log in to the network</html>")
        if files is None:
            return self.error(401, "RepoNotFound")
        if revision not in (None, "main", COMMIT):
            return self.error(404, "RevisionNotFound")
        if kind == "tree":
            found = [
                {
                    "type": "file",
                    "path": path,
                    "size": len(content),
                    "oid": git_digest(content),
                    **(
                        {"lfs": {"oid": sha256(content), "size": len(content), "pointerSize": 134}}
                        if is_lfs(path)
                        else {}
                    ),
                }
                for path, content in files.items()
            ]
        else:
            found = {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]}
        self.send(200, {"Content-Type": "application/json"}, json.dumps(found).encode() if with_body else b"")

    def resolve(self, repository: str, path: str) -> None:
        content = self.hub.repositories.get(repository, {}).get(path)
        if self.hub.fault in ERROR_CODES:
            return self.error(*ERROR_CODES[self.hub.fault])
        if content is None:
            return self.error(404, "EntryNotFound")
        digest = sha256(content) if is_lfs(path) else git_digest(content)
        about = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest}"'}
        if not is_lfs(path):
            return self.send(200, about, content)
        storage = self.hub.endpoint.replace("127.0.0.1", "localhost")  # another host, as that of the real storage is
        about |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        self.send(302, about | {"Location": f"{storage}/storage/{repository}/{path}"}, b"")

    def content(self, repository: str, path: str, with_body: bool) -> None:
        content = self.hub.sent.get(path, self.hub.repositories[repository][path])
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "bytes=0-")[1])
        headers = {
            "ETag": f'"{sha256(content)}"',
            "Accept-Ranges": "bytes",
            "Content-Length": str(len(content) - start),
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if path in self.hub.cut:
            self.hub.cut.remove(path)
            body = body[: len(body) // 2]
            self.close_connection = True
        self.send(206 if start else 200, headers, body if with_body else b"")

    def error(self, status: int, code: str) -> None:
        self.send(status, {"X-Error-Code": code} if code else {}, b"")

    def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def is_lfs(path: str) -> bool:
    return path.endswith((".pt", ".safetensors", ".ckpt"))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
