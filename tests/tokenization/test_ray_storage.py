"""Four workers on this machine stand for a Ray cluster that reads from and writes to object storage."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pytest

from l3ac_tokenizer.children import module_command
from l3ac_tokenizer.tokenization import open_source, spec, tokenize_corpus
from l3ac_tokenizer.tokenization.engines import WindowEncoder
from l3ac_tokenizer.tokenization.spec import TokenizationOptions

from .corpora import write_corpus
from .object_server import free_ports
from .test_object_storage import put_folder, rows_at, shards_at

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")

from l3ac_tokenizer.tokenization.ray_engine import RayEngine  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SHARDS_OF_16 = TokenizationOptions(shard_rows=16)
TESTS = os.path.dirname(os.path.dirname(__file__))


@pytest.fixture
def stored(tiny_model, server, bucket, tmp_path, monkeypatch):
    """A corpus of 240 clips, one of them a failure, on the storage, and its rows by one process."""
    monkeypatch.setattr(spec, "WINDOW_ROWS", 4)
    folder = write_corpus(tmp_path / "corpus", [16_000 + 500 * (number % 7) for number in range(240)])
    (folder / "033.flac").write_text("a failure")
    put_folder(server, folder, f"{bucket}/corpus")
    source = open_source(f"{bucket}/corpus")
    tokenize_corpus(source, tiny_model, f"{bucket}/here", SHARDS_OF_16)
    return source


class Nodes:
    """Nodes with one CPU each, and a head without any, which can be restarted at its address."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.start(4)

    def start(self, workers: int) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "gcs_server_port": self.port}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.workers = [self.add() for _ in range(workers)]
        self.cluster.wait_for_nodes()

    def add(self):
        return self.cluster.add_node(num_cpus=1)


@pytest.fixture
def nodes(monkeypatch):
    # workers of the nodes import this package and these tests as this process does
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), TESTS]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    nodes = Nodes()
    yield nodes
    ray.shutdown()
    nodes.cluster.shutdown()


class Noted:
    """The work of a worker, which notes the node it is done on."""

    def __init__(self, work: WindowEncoder, folder: str) -> None:
        self.work, self.encoder, self.folder = work, work.encoder, folder

    def __call__(self, start: int, stop: int, rank: int | None = None) -> pa.Table:
        with open(os.path.join(self.folder, ray.get_runtime_context().get_node_id()), "a") as file:
            file.write(f"{start}\n")
        return self.work(start, stop, rank)


class Changing(RayEngine):
    """Kills a node once some tables have come, and adds another some time later."""

    def __init__(self, nodes: Nodes, folder: str) -> None:
        super().__init__(nodes.cluster.address)
        self.nodes, self.folder = nodes, folder

    def run(self, work, windows):
        windows = list(windows)
        for number, table in enumerate(super().run(Noted(work, self.folder), windows)):
            if number == 3:
                self.killed = self.nodes.workers[0].node_id
                self.nodes.cluster.remove_node(self.nodes.workers[0], allow_graceful=False)
            if number == 6:
                self.late = self.nodes.add().node_id
                self.left = len(windows) - number
            if number == 10:  # time for the new node to begin
                time.sleep(15)
            yield table


def test_a_node_is_killed_and_another_joins_and_the_rows_are_the_same(
    tiny_model, stored, nodes, server, bucket, tmp_path
):
    (tmp_path / "notes").mkdir()
    engine = Changing(nodes, str(tmp_path / "notes"))
    summary = tokenize_corpus(stored, tiny_model, f"{bucket}/there", SHARDS_OF_16, engine=engine)
    assert engine.left > 30, "the cluster changed when little was left to do"
    assert summary["complete"] and summary["clips"] == 239 and summary["failures"] == 1
    assert shards_at(server, bucket, "there") == shards_at(server, bucket, "here")
    worked = {path.name for path in (tmp_path / "notes").iterdir()}
    assert engine.killed in worked
    assert len(worked) >= 4


def test_a_run_whose_head_is_restarted_resumes(tiny_model, stored, nodes, server, bucket, tmp_path):
    tiny_model.save_pretrained(tmp_path / "model")
    command = module_command(
        "l3ac_tokenizer.cli",
        "tokenize",
        f"{bucket}/corpus",
        "-o",
        f"{bucket}/there",
        "--model",
        str(tmp_path / "model"),
    )
    command += ["--shard-rows", "16", "--engine", "ray", "--ray-address", f"127.0.0.1:{nodes.port}"]
    with open(tmp_path / "messages", "wb") as messages:
        run = subprocess.Popen(command, stdout=messages, stderr=messages)
        deadline = time.monotonic() + 900  # workers of a busy machine take minutes to begin
        while len(done := shards_at(server, bucket, "there")) < 2:
            assert run.poll() is None and time.monotonic() < deadline, (tmp_path / "messages").read_text()
            time.sleep(0.5)
        nodes.cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
        try:
            status = run.wait(300)
        finally:
            run.kill()
    assert status != 0 and len(done) < 15, "the run ended before the head did"
    nodes.cluster.shutdown()
    nodes.start(2)
    resumed = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert resumed.returncode == 0, resumed.stderr
    assert rows_at(f"{bucket}/there") == rows_at(f"{bucket}/here")


def test_the_configuration_of_the_guide_is_one_of_rays():
    import yaml
    from ray.autoscaler._private.util import prepare_config, validate_config

    page = (Path(TESTS).parent / "docs" / "guides" / "ray.md").read_text()
    config = yaml.safe_load(re.search(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[1])
    validate_config(prepare_config(config))
    with pytest.raises(Exception, match="unknown_key"):
        validate_config(prepare_config({**config, "unknown_key": 1}))
