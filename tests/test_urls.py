"""URLs of object storage as text: what lies below what, and what is shown of them."""

from __future__ import annotations

import http.server
import threading

import pytest

from l3ac_tokenizer.names import OutsideError, common_folder, file_within, public_path, without_folders
from l3ac_tokenizer.tokenization import open_source
from l3ac_tokenizer.urls import is_below, is_url, joined, public_text, without_query


@pytest.mark.parametrize("url", ["s3://bucket/key", "https://host/a.tar?x=1", "HF://datasets/a"])
def test_urls_are_told_from_paths(url):
    assert is_url(url)
    assert not any(map(is_url, ("/a/b", "a://", "a:b", "C:\\a", "")))


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("clip.flac", "s3://bucket/corpus/clip.flac"),
        ("deep/clip.flac", "s3://bucket/corpus/deep/clip.flac"),
        ("s3://bucket/corpus/clip.flac", "s3://bucket/corpus/clip.flac"),
        ("../secret", None),
        ("deep/../../secret", None),
        ("deep\\..\\..\\secret", None),
        ("s3://bucket/corpus-2/clip.flac", None),
        ("s3://other/corpus/clip.flac", None),
        ("https://bucket/corpus/clip.flac", None),
        ("/etc/passwd", None),
        ("zip://a::s3://bucket/corpus/clip.zip", None),
    ],
)
def test_paths_in_data_lead_to_objects_below_the_corpus_alone(path, inside):
    root = "s3://bucket/corpus"
    if inside is not None:
        assert file_within(path, root) == inside
        return
    with pytest.raises(OutsideError, match="lies outside its corpus"):
        file_within(path, root)


@pytest.mark.parametrize("path", ["%2e%2e/secret", "deep/%2E%2E/../secret", "https://host/corpus/..%2fsecret"])
def test_percent_signs_lead_out_of_no_corpus_of_a_web_server(path):
    assert not is_below(joined("https://host/corpus", path), "https://host/corpus")


def test_a_manifest_on_this_disk_asks_no_server(tmp_path):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle(self):
            asked.append(self.client_address)

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    row = f"http://127.0.0.1:{web.server_port}/clip.flac?token=hidden"
    (tmp_path / "list.csv").write_text(f"path\n{row}\nhere.flac\n")
    try:
        records = list(open_source(str(tmp_path / "list.csv")).records(0, 2))
    finally:
        web.shutdown()
        web.server_close()
    assert not asked
    assert "lies outside its corpus" in records[0].error and records[1].error is None
    assert "hidden" not in f"{records[0].error}{records[0].path}{records[0].id}"


def test_credentials_are_not_shown(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret/with+signs")
    text = (
        "cannot read s3://key:word@bucket/a and https://host/b.tar?X-Amz-Signature=123&x=1: a-secret/with+signs sig=9"
    )
    shown = public_text(text)
    assert "s3://bucket/a" in shown and "https://host/b.tar" in shown
    assert not any(hidden in shown for hidden in ("word", "123", "a-secret", "sig=9"))
    assert without_query("https://host/b.tar?x=1") == "https://host/b.tar"
    assert without_query("s3://bucket/what?.tar") == "s3://bucket/what?.tar"


def test_names_of_objects_for_others_are_those_below_what_they_share():
    urls = ["s3://bucket/a/b/1.flac", "s3://bucket/a/c/2.flac"]
    common = common_folder(urls, "/corpus")
    assert [public_path(url, "/corpus", common) for url in urls] == ["b/1.flac", "c/2.flac"]
    assert public_path("https://host/a/1.flac?token=x", "https://host/a") == "1.flac"
    assert common_folder([*urls, "/elsewhere/3.flac"], "/corpus") == ""
    assert without_folders("s3://bucket/a/b/1.flac is missing") == "1.flac is missing"
