"""The same rows from a Ray cluster of several nodes, one of which is lost in the middle."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pyarrow as pa
import pytest

from l3ac_tokenizer.tokenization import open_source, spec, tokenize_corpus
from l3ac_tokenizer.tokenization.spec import TokenizationOptions

from .corpora import rows_of, write_corpus

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")

from l3ac_tokenizer.tokenization.ray_engine import RayEngine  # noqa: E402

pytestmark = pytest.mark.slow

SHARDS_OF_16 = TokenizationOptions(shard_rows=16)


@pytest.fixture
def corpus(tmp_path):
    folder = write_corpus(tmp_path / "corpus", [16_000 + 500 * (number % 7) for number in range(160)])
    (folder / "033.flac").write_text("a failure")
    return folder


@pytest.fixture
def cluster(monkeypatch):
    """A head without workers and two nodes with one CPU each, on this machine."""
    from ray.cluster_utils import Cluster

    # workers of the nodes import this package and these tests as this process does
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), os.path.dirname(os.path.dirname(__file__))]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    yield cluster, nodes
    ray.shutdown()
    cluster.shutdown()


class LosingANode(RayEngine):
    """Kills a node once some tables have come."""

    def __init__(self, cluster, node):
        super().__init__(cluster.address)
        self.cluster, self.node, self.tables, self.left = cluster, node, 0, None

    def run(self, work, windows):
        windows = list(windows)
        for table in super().run(work, windows):
            self.tables += 1
            if self.tables == 3:
                self.cluster.remove_node(self.node, allow_graceful=False)
                self.left = len(windows) - self.tables
            yield table


def test_a_node_is_lost_and_the_rows_are_the_same(tiny_model, corpus, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(spec, "WINDOW_ROWS", 4)
    source = open_source(str(corpus))
    tokenize_corpus(source, tiny_model, tmp_path / "here", SHARDS_OF_16)
    cluster, nodes = cluster
    engine = LosingANode(cluster, nodes[0])
    summary = tokenize_corpus(source, tiny_model, tmp_path / "there", SHARDS_OF_16, engine=engine)
    assert engine.left > 20, "the node was lost when little was left to do"
    assert summary["complete"] and summary["clips"] == 159 and summary["failures"] == 1
    assert rows_of(tmp_path / "there") == rows_of(tmp_path / "here")
    for name in ("failures.jsonl", *(path.name for path in (tmp_path / "here").glob("*.parquet"))):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


class NamingItsShare:
    """Stands for the work on a GPU: says what the worker has been given."""

    encoder = SimpleNamespace(device="cuda")

    def __call__(self, start, stop, rank):
        share = ray.get_runtime_context().get_assigned_resources()
        return pa.table({"row": [start], "gpus": [share.get("GPU", 0.0)]})


def test_four_workers_share_a_gpu(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), os.path.dirname(os.path.dirname(__file__))]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=4, num_gpus=1, include_dashboard=False)  # Ray counts GPUs, whether there are any or not
    try:
        engine = RayEngine(gpus_per_worker=0.25)
        table = pa.concat_tables(engine.run(NamingItsShare(), [(number, number + 1) for number in range(8)]))
    finally:
        ray.shutdown()
    assert sorted(table["row"].to_pylist()) == list(range(8))
    assert set(table["gpus"].to_pylist()) == {0.25}


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_is_of_one_gpu(share):
    with pytest.raises(ValueError, match="`gpus_per_worker` is"):
        RayEngine(gpus_per_worker=share)


def test_a_cluster_of_its_own_and_split_ids(tiny_model, tmp_path):
    source = open_source(str(write_corpus(tmp_path / "corpus")))
    options = TokenizationOptions(shard_rows=4, split=3)
    tokenize_corpus(source, tiny_model, tmp_path / "here", options)
    summary = tokenize_corpus(source, tiny_model, tmp_path / "there", options, engine=RayEngine(num_proc=1))
    assert summary["complete"]
    assert rows_of(tmp_path / "there") == rows_of(tmp_path / "here")
    assert not ray.is_initialized()
