"""Corpora read from and written to object storage: a real server, which is killed, and a proxy that misbehaves."""

from __future__ import annotations

import functools
import http.server
import io
import json
import os
import re
import signal
import tarfile
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from l3ac_tokenizer import storage, storage_lock
from l3ac_tokenizer.cli import main
from l3ac_tokenizer.listing.errors import DataError
from l3ac_tokenizer.storage import StorageError
from l3ac_tokenizer.storage_lock import StorageLock
from l3ac_tokenizer.tokenization import open_source, record, tokenize_corpus
from l3ac_tokenizer.tokenization.engines import LocalEngine
from l3ac_tokenizer.tokenization.errors import CorpusError
from l3ac_tokenizer.tokenization.merge import merge_corpora
from l3ac_tokenizer.tokenization.npy_index import write_npy_index
from l3ac_tokenizer.tokenization.output import read_shard_manifest
from l3ac_tokenizer.tokenization.reader import TokenizedCorpus
from l3ac_tokenizer.tokenization.record import ClipNotes, FinishedShards, ObjectRecord, ShardEntry
from l3ac_tokenizer.tokenization.spec import TokenizationOptions

from .corpora import file_bytes, rows_of
from .object_server import KEY, READER_KEY, READER_SECRET, SECRET
from .test_faults import in_child

SHARDS_OF_3 = TokenizationOptions(shard_rows=3)


def rows_at(url: str) -> list[dict]:
    """All rows of a tokenized corpus at a URL, in order."""
    return pa.concat_tables(TokenizedCorpus(url).tables()).to_pylist()


def put_folder(server, folder: Path, url: str) -> str:
    """Store the files of a folder below a URL, which is returned."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    for path in filter(Path.is_file, sorted(folder.rglob("*"))):
        key = f"{prefix}/{path.relative_to(folder).as_posix()}"
        server.client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    return url


def shards_at(server, bucket: str, prefix: str = "out") -> dict[str, bytes]:
    """What somebody sees who looks for `*.parquet`."""
    found = server.objects(bucket.removeprefix("s3://"), prefix)
    return {key.rpartition("/")[2]: data for key, data in found.items() if key.endswith(".parquet")}


def shards_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


@pytest.fixture
def tiny_folder(tiny_model, tmp_path) -> Path:
    tiny_model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def expected(tiny_model, corpus, tmp_path) -> Path:
    """The corpus, with a failure, tokenized on this disk."""
    (corpus / "004.flac").write_text("a failure")
    tokenize_corpus(open_source(str(corpus)), tiny_model, tmp_path / "expected", SHARDS_OF_3)
    return tmp_path / "expected"


# --- the same as on a disk ---------------------------------------------------------------------------------------


def test_shards_merged_and_counted_on_storage_are_those_on_disk(
    tiny_model, corpus, expected, server, bucket, tmp_path, capsys
):
    source = open_source(str(corpus))
    for index in range(2):
        options = TokenizationOptions(shard_rows=3, num_shards=2, shard_index=index)
        tokenize_corpus(source, tiny_model, f"{bucket}/parts/{index}", options)
    summary = merge_corpora([f"{bucket}/parts/1", f"{bucket}/parts/0"], f"{bucket}/out")
    assert summary["complete"] and summary["failures"] == 1
    assert shards_at(server, bucket) == shards_in(expected)
    assert rows_at(f"{bucket}/out") == rows_of(expected)
    assert TokenizedCorpus(f"{bucket}/out/shard-00001.parquet").metadata.split == 1
    write_npy_index(expected)
    write_npy_index(f"{bucket}/out")
    objects = server.objects(bucket.removeprefix("s3://"), "out/")
    for name in ("ids.npy", "index.npy"):
        assert objects[f"out/{name}"] == (expected / name).read_bytes()
    merge_corpora([f"{bucket}/parts/1", f"{bucket}/parts/0"], tmp_path / "fetched")
    for name in ("failures.jsonl", *shards_in(expected)):
        assert (tmp_path / "fetched" / name).read_bytes() == (expected / name).read_bytes()
    shown = []
    for place in (str(expected), f"{bucket}/out"):
        assert main(["stats", place, "--json"]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert shown[0] == shown[1]


def as_folder(clips: dict[str, bytes], folder: Path) -> str:
    for name, data in clips.items():
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "deep" / name).write_bytes(data)
    return ""


def as_parquet(clips: dict[str, bytes], folder: Path) -> str:
    for number, (name, data) in enumerate(clips.items()):
        table = pa.table({"audio": [{"bytes": data, "path": name}], "text": [f"words {number}"]})
        pq.write_table(table, folder / f"{number}.parquet")
    return ""


def as_parquet_of_paths(clips: dict[str, bytes], folder: Path) -> str:
    as_folder(clips, folder)
    pq.write_table(pa.table({"path": [f"deep/{name}" for name in clips]}), folder / "list.parquet")
    return "/list.parquet"


def as_manifest(clips: dict[str, bytes], folder: Path) -> str:
    as_folder(clips, folder)
    lines = [json.dumps({"path": f"deep/{name}", "text": name}) for name in clips]
    (folder / "list.jsonl").write_text("\n".join(lines))
    return "/list.jsonl"


def as_segments(clips: dict[str, bytes], folder: Path) -> str:
    as_folder(clips, folder)
    lines = [f"deep/{name},{start},0.02" for name in clips for start in (0, 0.01, 0.03)]
    (folder / "list.csv").write_text("\n".join(["path,start,seconds", *lines]))
    return "/list.csv"


def as_tars(clips: dict[str, bytes], folder: Path) -> str:
    items = list(clips.items())
    for number, batch in enumerate((items[:2], items[2:])):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            for name, data in batch:
                for member, content in ((name, data), (f"{name[:-5]}.txt", b"words")):
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return ""


def as_list_of_tars(clips: dict[str, bytes], folder: Path) -> str:
    as_tars(clips, folder)
    (folder / "list.txt").write_text("# shards\n1.tar\n0.tar\n")
    return "/list.txt"


FORMS = [as_folder, as_parquet, as_parquet_of_paths, as_manifest, as_segments, as_tars, as_list_of_tars]


@pytest.mark.parametrize("form", FORMS)
def test_a_corpus_on_storage_gives_the_rows_of_one_on_disk(form, tiny_model, server, bucket, tmp_path):
    clips = {f"{number}.flac": file_bytes(1000 + 100 * number, number) for number in range(4)}
    clips["3.flac"] = b"a failure"
    (tmp_path / "corpus").mkdir()
    place = form(clips, tmp_path / "corpus")
    put_folder(server, tmp_path / "corpus", f"{bucket}/corpus")
    results = []
    for root in (str(tmp_path / "corpus"), f"{bucket}/corpus"):
        source = open_source(f"{root}{place}")
        out = tmp_path / f"out-{len(results)}"
        summary = tokenize_corpus(source, tiny_model, out, SHARDS_OF_3)
        assert summary["complete"] and summary["failures"] == (3 if form is as_segments else 1)
        failed = [json.loads(line)["id"] for line in (out / "failures.jsonl").read_text().splitlines()]
        results.append((rows_of(out), source.digest(), failed))
    assert results[0] == results[1]
    assert results[0][0]


def test_shards_of_a_web_server_are_read_from_a_list(tiny_model, tmp_path):
    pytest.importorskip("aiohttp")
    folder = tmp_path / "web"
    folder.mkdir()
    as_tars({f"{number}.flac": file_bytes(1000 + 100 * number, number) for number in range(4)}, folder)
    handler = functools.partial(RangeHandler, directory=str(folder))
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    root = f"http://127.0.0.1:{web.server_port}"
    (tmp_path / "list.txt").write_text("".join(f"{root}/{n}.tar?signature=hidden-{n}\n" for n in range(2)))
    try:
        with pytest.raises(ValueError, match=r"outside its corpus.*--allow-outside") as refused:
            open_source(str(tmp_path / "list.txt"))
        assert "hidden" not in str(refused.value)
        source = open_source(str(tmp_path / "list.txt"), allow_outside=True)
        tokenize_corpus(source, tiny_model, tmp_path / "there", SHARDS_OF_3)
        with pytest.raises(DataError, match="web servers list no folders"):
            open_source(f"{root}/")
        with pytest.raises(CorpusError, match=r"cannot write http://.*: web servers take no files") as refused:
            tokenize_corpus(source, tiny_model, f"{root}/out?sig=hidden", SHARDS_OF_3)
        assert "hidden" not in str(refused.value)
    finally:
        web.shutdown()
        web.server_close()
    tokenize_corpus(open_source(str(folder)), tiny_model, tmp_path / "here", SHARDS_OF_3)
    assert rows_of(tmp_path / "there") == rows_of(tmp_path / "here")
    assert not [path for path in (tmp_path / "there").iterdir() if b"hidden" in path.read_bytes()]


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """A web server of files that gives parts of them, as the servers of data sets do."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        data = Path(self.translate_path(self.path)).read_bytes()
        wanted = self.headers.get("Range")
        first, last = wanted.removeprefix("bytes=").split("-") if wanted else ("0", "")
        first, last = int(first), min(int(last or len(data)), len(data) - 1)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self.wfile.write(data[first : last + 1])

    def log_message(self, *arguments):
        pass


# --- killed ------------------------------------------------------------------------------------------------------


def dying_at(call: int) -> None:
    """Let this process ask the storage `call` times, and die before the next."""
    left = [call]
    tried = storage._tried

    def counted(url, action, function):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return tried(url, action, function)

    storage._tried = counted


def test_a_run_killed_at_any_request_leaves_whole_shards_and_is_resumed(tiny_model, corpus, expected, server, bucket):
    source = open_source(str(corpus))
    ends = []
    for call in range(100):
        out = f"{bucket}/{call}"

        def work(call=call, out=out):
            dying_at(call)
            tokenize_corpus(source, tiny_model, out, SHARDS_OF_3)

        ends.append(in_child(work))
        seen = shards_at(server, bucket, f"{call}/")
        assert seen.items() <= shards_in(expected).items()
        assert read_shard_manifest(out)[1].keys() <= {int(name[6:11]) for name in seen}
        if ends[-1] == 0:
            break
        if call % 3 == 0:
            summary = tokenize_corpus(source, tiny_model, out, SHARDS_OF_3)
            assert summary["complete"] and summary["failures"] == 1
            assert shards_at(server, bucket, f"{call}/") == shards_in(expected)
            assert rows_at(out) == rows_of(expected)
    assert ends[-1] == 0 and ends.count(-signal.SIGKILL) == len(ends) - 1 > 12


class Killing(LocalEngine):
    """Kills its workers once a table has come."""

    def run(self, work, windows):
        import multiprocessing

        for table in super().run(work, windows):
            yield table
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)


@pytest.mark.slow
def test_killed_workers_are_told_and_another_number_of_them_finishes(
    tiny_model, corpus, expected, server, bucket, tmp_path
):
    put_folder(server, corpus, f"{bucket}/corpus")
    source = open_source(f"{bucket}/corpus")
    with pytest.raises(CorpusError, match="a worker process died"):
        tokenize_corpus(source, tiny_model, f"{bucket}/out", SHARDS_OF_3, engine=Killing(2))
    assert len(shards_at(server, bucket)) < 4
    tokenize_corpus(source, tiny_model, f"{bucket}/out", SHARDS_OF_3, engine=LocalEngine(3))
    assert shards_at(server, bucket).keys() == shards_in(expected).keys()
    assert [row["ids"] for row in rows_at(f"{bucket}/out")] == [row["ids"] for row in rows_of(expected)]


class Crashing(LocalEngine):
    """Kills the server before the second table, and starts it again some seconds later."""

    def __init__(self, server, seconds):
        super().__init__()
        self.server, self.seconds, self.crashed = server, seconds, False

    def run(self, work, windows):
        for number, table in enumerate(super().run(work, windows)):
            if number == 1:
                self.server.kill()
                self.restart = threading.Timer(self.seconds, self.server.start)
                self.restart.start()
            yield table


def test_a_server_that_is_killed_and_started_again_loses_nothing(
    tiny_model, corpus, expected, server, bucket, monkeypatch
):
    monkeypatch.setattr(storage, "WAITS", (0.5,) * 120)
    engine = Crashing(server, 1.0)
    try:
        summary = tokenize_corpus(open_source(str(corpus)), tiny_model, f"{bucket}/out", SHARDS_OF_3, engine=engine)
    finally:
        engine.restart.join()
    assert summary["complete"]
    assert shards_at(server, bucket) == shards_in(expected)
    assert rows_at(f"{bucket}/out") == rows_of(expected)


@pytest.mark.slow
def test_a_server_that_stays_away_is_one_sentence_and_the_run_resumes(
    tiny_model, corpus, expected, server, bucket, monkeypatch
):
    put_folder(server, corpus, f"{bucket}/corpus")
    source = open_source(f"{bucket}/corpus")
    with monkeypatch.context() as patch:
        patch.setattr(storage, "WAITS", (0.01,) * 3)
        engine = Crashing(server, 10_000)
        try:
            with pytest.raises(
                StorageError, match=r"cannot \w+ s3://.*: the storage failed 4 times .*; check the server"
            ):
                tokenize_corpus(source, tiny_model, f"{bucket}/out", SHARDS_OF_3, engine=engine)
        finally:
            engine.restart.cancel()
            server.start()
    summary = tokenize_corpus(source, tiny_model, f"{bucket}/out", SHARDS_OF_3)
    assert summary["complete"] and summary["failures"] == 1, "an absent server must not make failures of clips"
    assert [row["ids"] for row in rows_at(f"{bucket}/out")] == [row["ids"] for row in rows_of(expected)]


# --- what is done ------------------------------------------------------------------------------------------------


def test_resuming_lists_and_opens_nothing_that_is_done(tiny_model, corpus, proxy, bucket, monkeypatch):
    monkeypatch.setattr(record, "SEGMENT_LINES", 3)
    options = TokenizationOptions(shard_rows=1)
    source = open_source(str(corpus))
    tokenize_corpus(source, tiny_model, f"{bucket}/out", options)
    proxy.requests.clear()
    assert tokenize_corpus(source, tiny_model, f"{bucket}/out", options)["shards"] == 10
    assert not [each for each in proxy.requests if "shard-" in each.path or each.is_listing]
    assert len(proxy.seen("GET", r"/manifest/")) == 5, "four objects of up to three lines, and the end"
    proxy.requests.clear()
    assert len(TokenizedCorpus(f"{bucket}/out")) == 10
    assert not [each for each in proxy.requests if each.is_listing]


def test_the_record_of_a_million_shards_fits_memory():
    import tracemalloc

    entries = FinishedShards()
    tracemalloc.start()
    for shard in range(20_000):
        entries.add(ShardEntry(shard, 1000, 160_000_000 + shard, 600_000, 1_500_000, f"{shard:064x}", 12.5, 1, 0))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / 20_000 * 1_000_000 < 300e6
    assert entries[7].sha256 == f"{7:064x}" and entries[7].num_samples == 160_000_007 and len(entries) == 20_000


def test_two_jobs_on_one_output_are_told(tiny_model, corpus, bucket, monkeypatch):
    source = open_source(str(corpus))
    held = StorageLock(f"{bucket}/out")
    with pytest.raises(
        CorpusError, match=rf"another run is writing {bucket}/out \(on .*, process {os.getpid()}\): wait"
    ):
        tokenize_corpus(source, tiny_model, f"{bucket}/out", SHARDS_OF_3)
    held.release()
    assert tokenize_corpus(source, tiny_model, f"{bucket}/out", SHARDS_OF_3)["complete"]


def test_the_lock_of_a_dead_process_is_taken_and_one_from_elsewhere_expires(bucket, monkeypatch):
    def work():
        StorageLock(f"{bucket}/out")
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work) == -signal.SIGKILL
    StorageLock(f"{bucket}/out").release()
    with monkeypatch.context() as patch:
        patch.setattr(storage_lock, "_machine", lambda: "another")
        assert in_child(work) == -signal.SIGKILL
    with pytest.raises(storage_lock.LockedError, match=r"its lock expires in 1[12][0-9] s"):
        StorageLock(f"{bucket}/out")
    monkeypatch.setattr(storage_lock, "EXPIRES", 2.0)
    time.sleep(3.1)  # the storage's clock has whole seconds
    StorageLock(f"{bucket}/out").release()


def test_a_lock_is_renewed_while_its_owner_works(bucket, monkeypatch):
    monkeypatch.setattr(storage_lock, "RENEWS", 0.2)
    held = StorageLock(f"{bucket}/out")
    before = storage.read_object(f"{bucket}/out/lock.json").version
    time.sleep(1.0)
    assert storage.read_object(f"{bucket}/out/lock.json").version != before
    held.release()
    assert storage.read_object(f"{bucket}/out/lock.json") is None


def test_a_run_that_another_has_taken_over_stops_at_its_next_shard(tiny_model, corpus, expected, bucket):
    source = open_source(str(corpus))

    class Overtaken(LocalEngine):
        def run(self, work, windows):
            for number, table in enumerate(super().run(work, windows)):
                if number == 1:
                    other = ObjectRecord(f"{bucket}/out")
                    other.read()
                    other.enter(ShardEntry(3, 1, 1, 1, 1, "00" * 32, 0.0), ClipNotes([], []))
                yield table

    with pytest.raises(OSError, match="has been changed by another run: let one of them end"):
        tokenize_corpus(source, tiny_model, f"{bucket}/out", SHARDS_OF_3, engine=Overtaken())


# --- refused -----------------------------------------------------------------------------------------------------


def user(monkeypatch, key: str, secret: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    storage._file_system.cache_clear()


@pytest.mark.parametrize(
    ("key", "secret", "place", "reason"),
    [
        (READER_KEY, READER_SECRET, "{bucket}/out", "the storage does not allow it (AccessDenied)"),
        (KEY, "a-wrong-secret", "{bucket}/out", "the storage does not allow it (SignatureDoesNotMatch)"),
        ("nobody", "a-wrong-secret", "{bucket}/out", "the storage does not allow it (InvalidAccessKeyId)"),
        (KEY, SECRET, "s3://no-such-bucket/out", "its bucket does not exist"),
        (KEY, SECRET, "s3://key:a-wrong-secret@bucket/out", "credentials in it"),
        (KEY, SECRET, "nothing://bucket/out", "is not a kind of URL that fsspec opens"),
        (KEY, SECRET, "file:///tmp/out", "give the path of a local file"),
    ],
)
def test_what_is_not_allowed_is_one_sentence_without_credentials(
    key, secret, place, reason, tiny_folder, corpus, bucket, monkeypatch, capfd, caplog
):
    user(monkeypatch, key, secret)
    command = ["tokenize", str(corpus), "--model", str(tiny_folder), "-o", place.format(bucket=bucket)]
    assert main(command) == 1
    shown = capfd.readouterr()
    (line,) = [line for line in shown.err.splitlines() if line.startswith("l3ac: ")]
    assert reason in line and line.endswith(".")
    for text in (shown.out, shown.err, caplog.text):
        assert secret not in text and "a-wrong-secret" not in text


def test_credentials_stand_in_nothing_that_is_written(tiny_model, corpus, expected, server, bucket):
    tokenize_corpus(open_source(str(corpus)), tiny_model, f"{bucket}/out", SHARDS_OF_3)
    for data in server.objects(bucket.removeprefix("s3://")).values():
        assert SECRET.encode() not in data and KEY.encode() not in data


def test_a_missing_corpus_is_one_sentence(bucket):
    for place, reason in [
        (f"{bucket}/nothing", "there is nothing below"),
        (f"{bucket}/nothing.tar", "no file or folder"),
        ("s3://no-such-bucket/corpus.tar", "its bucket does not exist"),
        ("s3://no-such-bucket/corpus", "its bucket does not exist"),
    ]:
        with pytest.raises(OSError, match=reason):
            open_source(place)
    with pytest.raises(CorpusError, match=r"holds no \.parquet files"):
        TokenizedCorpus(f"{bucket}/nothing")


# --- a storage that misbehaves -----------------------------------------------------------------------------------


def every(count: int, fate):
    return lambda request: fate if request.number % count == count - 1 else None


@pytest.mark.parametrize(
    "misbehaves",
    [
        every(3, (503, "SlowDown")),
        every(3, (429, "TooManyRequests")),
        every(4, (500, "InternalError")),
        every(3, "cut"),
        every(4, "lost"),
        lambda request: time.sleep(0.03),
    ],
    ids=["SlowDown", "429", "InternalError", "cut", "lost", "slow"],
)
def test_nothing_is_lost_or_twice_through_a_storage_that_misbehaves(
    misbehaves, tiny_model, corpus, expected, server, proxy, bucket
):
    put_folder(server, corpus, f"{bucket}/corpus")
    proxy.misbehaves = misbehaves
    for _ in range(2):  # the second run finds all done
        summary = tokenize_corpus(open_source(f"{bucket}/corpus"), tiny_model, f"{bucket}/out", SHARDS_OF_3)
        assert summary["complete"] and summary["clips"] == 9 and summary["failures"] == 1
    merge_corpora([f"{bucket}/out"], f"{bucket}/merged")
    for place in ("out", "merged"):
        rows = rows_at(f"{bucket}/{place}")
        assert [(row["id"], row["ids"]) for row in rows] == [(row["id"], row["ids"]) for row in rows_of(expected)]
    assert shards_at(server, bucket) == shards_at(server, bucket, "merged")


def test_credentials_that_expire_in_an_upload_are_one_sentence_and_new_ones_resume(
    tiny_model, corpus, expected, server, proxy, bucket
):
    source = open_source(str(corpus))
    proxy.misbehaves = lambda request: (400, "ExpiredToken") if len(proxy.seen("PUT", "shard-")) > 2 else None
    with pytest.raises(StorageError, match=r"the credentials have expired; get new ones.* 2 of 4 shards are done"):
        tokenize_corpus(source, tiny_model, f"{bucket}/out", SHARDS_OF_3)
    assert len(shards_at(server, bucket)) == 2
    proxy.misbehaves = lambda request: None
    storage_lock._held.clear()
    tokenize_corpus(source, tiny_model, f"{bucket}/out", SHARDS_OF_3)
    assert shards_at(server, bucket) == shards_in(expected)


PART = 5 << 20


def test_an_upload_that_is_never_completed_is_invisible_and_removed(server, proxy, bucket, monkeypatch):
    monkeypatch.setattr(storage, "PART_BYTES", PART)
    data = os.urandom(2 * PART + 1000)
    url = f"{bucket}/out/shard-00000.parquet"

    def work():
        with storage.written_whole(url) as file:
            file.write(data[:PART])
            file.write(data[PART : 2 * PART])
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work) == -signal.SIGKILL
    uploads = functools.partial(server.client.list_multipart_uploads, Bucket=bucket.removeprefix("s3://"))
    assert len(uploads().get("Uploads", ())) == 1
    assert not storage.objects_below(f"{bucket}/out")
    storage.discard_unfinished(f"{bucket}/out")
    assert not uploads().get("Uploads")
    proxy.misbehaves = every(3, (503, "SlowDown"))
    storage.write_whole(url, data)
    assert storage.read_bytes(url, storage_limit()) == data
    proxy.misbehaves = lambda request: (400, "ExpiredToken") if request.path.endswith("partNumber=2") else None
    with pytest.raises(StorageError, match="have expired"):
        storage.write_whole(f"{bucket}/out/other", data)
    proxy.misbehaves = lambda request: None
    assert storage.objects_below(f"{bucket}/out") == {"shard-00000.parquet": len(data)}
    assert not uploads().get("Uploads")


def test_an_upload_whose_completion_is_answered_into_the_void_is_complete(server, proxy, bucket, monkeypatch):
    monkeypatch.setattr(storage, "PART_BYTES", PART)
    data = os.urandom(2 * PART)
    lost: list[str] = []

    def misbehaves(request):
        if request.method == "POST" and "uploadId=" in request.path and not lost:
            lost.append(request.path)
            return "lost"
        return None

    proxy.misbehaves = misbehaves
    storage.write_whole(f"{bucket}/object", data)
    assert lost and storage.read_bytes(f"{bucket}/object", storage_limit()) == data


def storage_limit():
    from l3ac_tokenizer.limits import CLIP_BYTES

    return CLIP_BYTES


def test_listings_that_lag_behind_lose_nothing(tiny_model, corpus, expected, server, proxy, bucket):
    nothing = b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"
    proxy.misbehaves = lambda request: nothing if request.is_listing else None
    source = open_source(str(corpus))
    tokenize_corpus(source, tiny_model, f"{bucket}/out", SHARDS_OF_3)
    tokenize_corpus(source, tiny_model, f"{bucket}/out", SHARDS_OF_3)
    merge_corpora([f"{bucket}/out"], f"{bucket}/merged")
    assert rows_at(f"{bucket}/merged") == rows_of(expected)
    assert shards_at(server, bucket, "merged") == shards_in(expected)


def test_a_corpus_whose_listing_has_changed_is_refused(tiny_model, corpus, server, proxy, bucket):
    put_folder(server, corpus, f"{bucket}/corpus")
    fresh = len(open_source(f"{bucket}/corpus"))
    tokenize_corpus(open_source(f"{bucket}/corpus"), tiny_model, f"{bucket}/out", SHARDS_OF_3)
    server.client.delete_object(Bucket=bucket.removeprefix("s3://"), Key="corpus/009.flac")
    with pytest.raises(CorpusError, match=f"number of clips is {fresh - 1} and was {fresh}"):
        tokenize_corpus(open_source(f"{bucket}/corpus"), tiny_model, f"{bucket}/out", SHARDS_OF_3)


def test_fifty_thousand_objects_are_listed_by_a_busy_storage(proxy, bucket):
    names = [f"{number // 5000}/{number:05d}.flac" for number in range(50_000)]

    def misbehaves(request):
        if request.number % 3 == 2:
            return 503, "SlowDown"
        if not request.is_listing:
            return None
        first = int((re.search("continuation-token=([0-9]+)", request.path) or ["", "0"])[1])
        page = "".join(f"<Contents><Key>corpus/{name}</Key><Size>7</Size></Contents>" for name in names[first:][:1000])
        more = f"<NextContinuationToken>{first + 1000}</NextContinuationToken>"
        more += f"<IsTruncated>{str(first + 1000 < len(names)).lower()}</IsTruncated>"
        return f"<ListBucketResult>{page}{more}</ListBucketResult>".encode()

    proxy.misbehaves = misbehaves
    assert storage.objects_below(f"{bucket}/corpus") == dict.fromkeys(names, 7)


def test_more_objects_than_a_page_has_are_listed(server, bucket):
    fs, path = storage._place(bucket)
    fs.pipe({f"{path}/corpus/{number:04d}": b"" for number in range(1005)}, batch_size=32)
    assert len(storage.objects_below(f"{bucket}/corpus")) == 1005
