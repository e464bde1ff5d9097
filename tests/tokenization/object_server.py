"""A real S3 server (SeaweedFS) for the tests, and a proxy before it that misbehaves."""

from __future__ import annotations

import contextlib
import functools
import http.client
import http.server
import json
import re
import shutil
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path

KEY, SECRET = "test-key", "a-secret-for-tests"
READER_KEY, READER_SECRET = "reader-key", "another-secret-for-tests"


def weed() -> str | None:
    """The server's program, where it is installed."""
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Server:
    """SeaweedFS in a folder, which outlives its process: `kill` and `start` are a crash and a restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = ["master.port", "volume.port", "filer.port", "s3.port"]
        ports = free_ports(2 * len(names))
        self._ports = dict(zip([*names, *(f"{name}.grpc" for name in names)], ports, strict=True))
        self.port = self._ports["s3.port"]
        self.url = f"http://127.0.0.1:{self.port}"
        (folder / "data").mkdir()
        (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")  # files for each bucket
        identities = [
            _identity("writer", KEY, SECRET, ["Admin", "Read", "Write", "List", "Tagging"]),
            _identity("reader", READER_KEY, READER_SECRET, ["Read", "List"]),
        ]
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [weed(), "server", "-filer", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=2000"]
        command += [f"-{name}={port}" for name, port in self._ports.items()]
        command += [f"-dir={self.folder / 'data'}", f"-s3.config={self.folder / 's3.json'}"]
        command += [f"-{name}.localSocket={self.folder / name}.sock" for name in ("s3", "filer")]
        command += ["-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=64"]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline, (self.folder / "log").read_text()[
                -2000:
            ]
            time.sleep(0.2)

    def _answers(self) -> bool:
        """Whether it stores and finds an object, which its parts can do some time after its port is open."""
        import botocore.exceptions

        try:
            client = self.client
            with contextlib.suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket="is-up")
            client.put_object(Bucket="is-up", Key="up", Body=b"up")
            return client.get_object(Bucket="is-up", Key="up")["Body"].read() == b"up"
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            return False

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @functools.cached_property
    def client(self):
        """A client of the server itself, past any proxy."""
        import botocore.config
        import botocore.session

        return botocore.session.Session().create_client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=botocore.config.Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=20),
        )

    def objects(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """All objects below a prefix."""
        client = self.client
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
        return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def _identity(name: str, key: str, secret: str, actions: list[str]) -> dict:
    return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}


class Request:
    """A request at the proxy.

    Attributes:
        number: of requests before it.
        method, path: as in its first line.
    """

    def __init__(self, number: int, method: str, path: str) -> None:
        self.number, self.method, self.path = number, method, path

    @property
    def is_listing(self) -> bool:
        return self.method == "GET" and "list-type=" in self.path

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"


Misbehavior = Callable[[Request], "int | tuple[int, str] | bytes | str | None"]


class Proxy:
    """A proxy before the server. What `misbehaves` returns for a request decides what becomes of it.

    None: it is passed on. (status, code): it is answered with this error. "cut": half of the answer is sent, and the
    connection closed. "lost": it is passed on, and the connection closed without an answer. Bytes: the answer.
    """

    def __init__(self, server: Server) -> None:
        self.requests: list[Request] = []
        self.misbehaves: Misbehavior = lambda request: None
        lock = threading.Lock()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with lock:
                    request = Request(len(proxy.requests), self.command, self.path)
                    proxy.requests.append(request)
                fate = proxy.misbehaves(request)
                if isinstance(fate, tuple):
                    status, code = fate
                    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
                    self.answer(status, {"Content-Type": "application/xml"}, text)
                    return
                if isinstance(fate, bytes):
                    self.answer(200, {"Content-Type": "application/xml"}, fate)
                    return
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
                try:
                    headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
                    connection.request(self.command, self.path, body, headers)
                    response = connection.getresponse()
                    data = response.read()
                except OSError:
                    self.close_connection = True
                    return
                finally:
                    connection.close()
                if fate == "lost":
                    self.close_connection = True
                    return
                left_out = ("connection", "transfer-encoding", "content-length")
                kept = {name: value for name, value in response.getheaders() if name.lower() not in left_out}
                length = response.getheader("Content-Length") if self.command == "HEAD" else None
                self.answer(response.status, kept, data, length, cut=fate == "cut" and len(data) > 1)

            def answer(
                self, status: int, headers: dict, data: bytes, length: str | None = None, cut: bool = False
            ) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", length or str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data[: len(data) // 2] if cut else data)
                self.close_connection |= cut

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

            def log_message(self, *arguments) -> None:
                pass

        class Listener(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *arguments) -> None:  # a client that closes its connection
                pass

        self._listener = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._listener.server_port}"
        threading.Thread(target=self._listener.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown()
        self._listener.server_close()

    def seen(self, method: str, pattern: str) -> list[Request]:
        """The requests of a method whose paths fit a pattern."""
        return [each for each in self.requests if each.method == method and re.search(pattern, each.path)]
