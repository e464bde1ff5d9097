"""Sizes that a file claims and small inputs that expand: refused at every entrance in one sentence, within 1 GiB and
ten seconds. A new entrance is tested by being listed in `ENTRANCES`, a new attack on one by a line in `ATTACKS`."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch

from l3ac_tokenizer import CodecFeatureExtractor, CodecModel, L3ACConfig, TAAEConfig, id_files, limits
from l3ac_tokenizer.audio import open_clip, read_audio
from l3ac_tokenizer.cli.info import describe_file
from l3ac_tokenizer.container import Header, dump_l3ac, read_l3ac, salvage_l3ac
from l3ac_tokenizer.id_metadata import IdMetadata
from l3ac_tokenizer.inference import decode_clips, encode_clips, group_by_length
from l3ac_tokenizer.limits import BATCH_CLIPS, CLIP_SECONDS
from l3ac_tokenizer.listing.manifest import load_manifest
from l3ac_tokenizer.tokenization import open_source
from l3ac_tokenizer.tokenization.merge import merge_corpora
from l3ac_tokenizer.tokenization.reader import TokenizedCorpus
from l3ac_tokenizer.tokenization.statistics import corpus_statistics, count_ids
from l3ac_tokenizer.training.config import load_config
from l3ac_tokenizer.training.data.corpus import TrainingClip, decode
from l3ac_tokenizer.training.data.readers import find_clips


def read_ids(path: Path) -> Any:
    corpus = TokenizedCorpus(path)
    return corpus_statistics(corpus, count_ids(corpus))


def all_records(path: Path) -> Any:
    """Every record of a source, with its audio opened."""
    source = open_source(str(path))
    for record in source.records(0, len(source)):
        if record.error:
            raise ValueError(record.error)
        open_clip(record.audio, record.path, 16_000).read()


def prepared(path: Path) -> Any:
    return decode([TrainingClip(str(path), "x")], path.parent / "cache", 16_000, 0.0)


ENTRANCES: dict[str, Callable[[Path], Any]] = {
    "read_l3ac": read_l3ac,
    "plain ids": id_files.read_ids,
    "l3ac info": lambda path: describe_file(str(path)) if salvage_l3ac(path)[2] is None else read_l3ac(path),
    "audio": lambda path: read_audio(path, 16_000),
    "audio in memory": lambda path: open_clip(path.read_bytes(), "it", 16_000).read(),
    "training": prepared,
    "source": all_records,
    "corpus": read_ids,
    "merge": lambda path: merge_corpora([path.parent], path.parent / "out"),
    "manifest": load_manifest,
    "YAML": load_config,
    "checkpoint": lambda path: CodecModel.from_pretrained(path),
    "feature extractor": lambda path: CodecFeatureExtractor.from_pretrained(path),
    "configuration": lambda path: L3ACConfig.from_pretrained(path),
    "note of a codec": lambda path: IdMetadata.from_json(path.read_text()),
    "tables of datasets": lambda path: find_clips([path], domains=[], default_domain="x"),
}


def repeated_value(folder: Path, compression: bool = True) -> Path:
    """One value of 1 MiB that stands in 2,000 rows, as a dictionary has it."""
    indices = pa.array(np.zeros(2_000, np.int32))
    values = pa.DictionaryArray.from_arrays(indices, pa.array([b"\0" * (1 << 20)]))
    return hostile.parquet(folder / "x.parquet", pa.table({"audio": values}), dictionary_pagesize_limit=1 << 30)


def billion_laughs() -> str:
    """YAML of a few lines that each name the line before eight times."""
    lines = [f"b{n}: &a{n + 1} [{','.join([f'*a{n}'] * 8)}]" for n in range(9)]
    return "\n".join(["a: &a0 [x,x,x,x,x,x,x,x]", *lines])


def numpy_claiming(path: Path, count: int) -> Path:
    header = {"descr": "<i8", "fortran_order": False, "shape": (count,)}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    path.write_bytes(file.getvalue())
    return path


def jamendo(folder: Path) -> Path:
    (folder / "00").mkdir(parents=True)
    hostile.write(folder / "autotagging-train.tsv", "PATH\tDURATION\n00/1.mp3\t1e30\n")
    return folder


def config(folder: Path, name: str = "config.json", **values: Any) -> Path:
    kind = {"model_type": "l3ac"} if name == "config.json" else {}
    hostile.write(folder / name, json.dumps(kind | values))
    return folder


AUDIO = ("audio", "audio in memory", "training")
L3AC_FILE = ("read_l3ac", "l3ac info")

ATTACKS: dict[str, tuple[tuple[str, ...], Callable[[Path], Path]]] = {
    "entropy coding of large levels": (L3AC_FILE, lambda f: hostile.l3ac(f / "x.l3ac", (65_535,) * 3)),
    "an id count beyond all bounds": (L3AC_FILE, lambda f: hostile.l3ac(f / "x.l3ac", num_ids=1 << 50, hop=1)),
    "a rate of 1 Hz of ids": (L3AC_FILE, lambda f: hostile.l3ac(f / "x.l3ac", rate=1)),
    "a hop of 2^31": (L3AC_FILE, lambda f: hostile.l3ac(f / "x.l3ac", hop=1 << 31)),
    "a block of 4 GiB": (L3AC_FILE, lambda f: hostile.l3ac(f / "x.l3ac", blocks=1, claimed=0xFFFFFFF0)),
    "blocks without payload": (L3AC_FILE, lambda f: hostile.l3ac(f / "x.l3ac", num_ids=40_960, blocks=40)),
    "8 GiB of zeros as .l3ac": (L3AC_FILE, lambda f: hostile.sparse(f / "x.l3ac", 8 << 30)),
    "8 GiB of zeros as ids": (("plain ids",), lambda f: hostile.sparse(f / "x.npy", 8 << 30)),
    "2^50 ids in a header": (("plain ids",), lambda f: numpy_claiming(f / "x.npy", 1 << 50)),
    "ids of 30 MB that are lists": (("plain ids",), lambda f: hostile.write(f / "x.json", "[" + "[]," * 10**7)),
    "ids of 30 MB that are words": (("plain ids",), lambda f: hostile.write(f / "x.txt", "abc " * 7_500_000)),
    "a rate of 1 Hz": (AUDIO, lambda f: hostile.wav(f / "x.wav", rate=1)),
    "a rate of 2 GHz": (AUDIO, lambda f: hostile.wav(f / "x.wav", rate=2_000_000_000)),
    "FLAC that claims 2^36 samples": (AUDIO, lambda f: hostile.flac_claiming(f / "x.flac", 2**36 - 1)),
    "3 h of silence as a whole": (AUDIO, lambda f: hostile.silent_flac(f / "x.flac", 3)),
    "a tar member of 6 GiB": (
        ("source",),
        lambda f: hostile.tar(f / "x.tar", hostile.tar_member("a.wav", 6 << 30), good=False),
    ),
    "a long name of 6 GiB": (
        ("source",),
        lambda f: hostile.tar(f / "x.tar", hostile.tar_member("n", 6 << 30, b"", tarfile_long()), good=False),
    ),
    "a transcript of 2 MiB in tar": (
        ("source",),
        lambda f: hostile.tar(f / "x.tar", hostile.tar_member("good.json", 1 << 21, b" " * (1 << 21))),
    ),
    "a row group of zeros": (
        ("source",),
        lambda f: hostile.parquet(f / "x.parquet", pa.table({"audio": [b"\0" * (1 << 26)]})),
    ),
    "one value in 2,000 rows": (("source",), repeated_value),
    "a name of 64 KiB": (
        ("source",),
        lambda f: hostile.parquet(f / "x.parquet", pa.table({"audio": [hostile.flac_bytes()], "id": ["n" * 65_536]})),
    ),
    "levels of 2^31": (
        ("corpus",),
        lambda f: hostile.parquet(
            f / "x.parquet", hostile.ids_table(), hostile.corpus_metadata(levels=[2**31 - 1, 2**31 - 1])
        ),
    ),
    "a codebook of 2^62": (
        ("corpus",),
        lambda f: hostile.parquet(f / "x.parquet", hostile.ids_table(), hostile.corpus_metadata(levels=[2] * 62)),
    ),
    "10^12 rows in a manifest": (
        ("merge",),
        lambda f: hostile.shard_manifest(f / "manifest.jsonl", source_rows=10**12, shard_rows=1),
    ),
    "10^12 jobs in a manifest": (
        ("merge",),
        lambda f: hostile.shard_manifest(f / "manifest.jsonl", num_shards=10**12),
    ),
    "10^30 rows in a manifest": (
        ("merge",),
        lambda f: hostile.shard_manifest(f / "manifest.jsonl", source_rows=10**30),
    ),
    "levels of 10^12 in a note": (
        ("note of a codec",),
        lambda f: hostile.write(f / "codec.json", '{"weights_digest": "0", "levels": [1000000000000]}'),
    ),
    "8 GiB of zeros as a manifest": (("manifest",), lambda f: hostile.sparse(f / "x.jsonl", 8 << 30)),
    "8 GiB of zeros as YAML": (("YAML",), lambda f: hostile.sparse(f / "x.yaml", 8 << 30)),
    "a start of 400 digits": (
        ("manifest",),
        lambda f: hostile.write(f / "x.jsonl", '{"path": "a.wav", "start": ' + "9" * 400 + "}"),
    ),
    "JSON that is deep": (("manifest",), lambda f: hostile.write(f / "x.jsonl", '{"path": ' + "[" * 10**6)),
    "a track of 10^30 s": (("tables of datasets",), jamendo),
    "aliases that multiply": (("YAML",), lambda f: hostile.write(f / "x.yaml", billion_laughs())),
    "a list within itself": (("YAML",), lambda f: hostile.write(f / "x.yaml", "preset: &a [*a]\n")),
    "an unknown key with a large value": (
        ("YAML",),
        lambda f: hostile.write(f / "x.yaml", "? " + "k" * 200_000 + "\n: 1\n"),
    ),
    "a value of 200 KB of the wrong type": (
        ("YAML",),
        lambda f: hostile.write(f / "x.yaml", "max_steps: " + "k" * 200_000 + "\n"),
    ),
    "YAML that is deep": (("YAML",), lambda f: hostile.write(f / "x.yaml", "a: " + "[" * 50_000)),
    "a number of 5,000 digits": (("YAML",), lambda f: hostile.write(f / "x.yaml", "seed: " + "1" * 5_000)),
    "a base within itself": (("YAML",), lambda f: hostile.write(f / "x.yaml", "base: x.yaml\n")),
    "a base that is a list": (("YAML",), lambda f: hostile.write(f / "x.yaml", "base: [1]\n")),
    "an extractor of 1 Hz": (
        ("feature extractor",),
        lambda f: config(f, "preprocessor_config.json", sampling_rate=1),
    ),
    "an extractor of text": (
        ("feature extractor",),
        lambda f: config(f, "preprocessor_config.json", sampling_rate="x" * 9_000),
    ),
    "80,000 quantizers": (("configuration",), lambda f: config(f, num_quantizers=80_000)),
    "a window of 10^12": (("configuration",), lambda f: config(f, attention_window=10**12)),
    "10^6 levels": (("configuration",), lambda f: config(f, levels=[3] * 10**6)),
}


def tarfile_long() -> bytes:
    return tarfile.GNUTYPE_LONGNAME


CASES = [(entrance, attack) for attack, (entrances, _) in ATTACKS.items() for entrance in entrances]


@pytest.mark.parametrize(("entrance", "attack"), CASES)
def test_a_claim_is_refused_before_it_costs_anything(entrance, attack, limited, tmp_path):
    (tmp_path / "x").mkdir()
    path = ATTACKS[attack][1](tmp_path / "x")
    outcome = limited(lambda: ENTRANCES[entrance](path))
    assert outcome.is_refusal, outcome


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_every_entrance_is_attacked(entrance):
    assert entrance in {entrance for entrance, _ in CASES} | {"checkpoint"}


@pytest.mark.parametrize("kind", [L3ACConfig, TAAEConfig])
def test_every_number_of_a_configuration_has_an_upper_bound(kind):
    for field, value in kind().to_dict().items():
        entries = value if isinstance(value, (list, tuple)) else [value]
        if entries and field in kind.__dataclass_fields__ and all(type(each) is int for each in entries):
            if field in ("chunk_size_feed_forward",) or not hasattr(kind, field):
                continue
            changed = [10**12] * len(entries) if isinstance(value, (list, tuple)) else 10**12
            with pytest.raises(Exception, match=f"`{field}`"):
                kind(**{field: changed})


@pytest.mark.parametrize("field", ["levels", "encoder_rates", "decoder_dims", "ids_of"])
def test_every_list_of_a_configuration_has_few_entries(field):
    with pytest.raises(Exception, match=f"`{field}` has 1000000 entries"):
        L3ACConfig(**{field: ["x" if field == "ids_of" else 3] * 10**6})


def test_a_configuration_of_more_weights_than_its_files_hold_is_refused(limited, checkpoint, tmp_path):
    values = json.loads((checkpoint / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    config(tmp_path, **{**values, "feature_dim": 16_384, "encoder_layers": [20, 20]})
    assert limited(lambda: CodecModel.from_pretrained(tmp_path)).is_refusal
    (tmp_path / "model.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    outcome = limited(lambda: CodecModel.from_pretrained(tmp_path))
    assert outcome.error and not outcome.signal and outcome.error != "MemoryError"


def test_silence_in_entropy_coding_still_reads_back():
    for value in (0, 58_824):
        ids = np.full(20_000, value)
        header = Header("x", "0" * 64, (7,) * 6, 16_000, 270, 270 * len(ids), "entropy")
        assert (read_l3ac(io.BytesIO(dump_l3ac(header, ids)))[1] == ids).all()


def test_a_limit_is_raised_by_the_variable_that_its_error_names(tmp_path, monkeypatch):
    path = hostile.wav(tmp_path / "x.wav", rate=500, samples=2_000)
    with pytest.raises(ValueError, match="set L3AC_LOWEST_RATE to allow it"):
        read_audio(path, 16_000)
    monkeypatch.setenv("L3AC_LOWEST_RATE", "100")
    assert len(read_audio(path, 16_000)[0]) == 64_000
    monkeypatch.setenv(CLIP_SECONDS.variable, "3.5")
    with pytest.raises(ValueError, match=f"4 s long, more than the 3.5 allowed: set the .* {CLIP_SECONDS.variable}"):
        read_audio(path, 16_000)
    monkeypatch.setenv(CLIP_SECONDS.variable, "many")
    with pytest.raises(ValueError, match="set it to a number"):
        read_audio(path, 16_000)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000, 192_000])
def test_rates_in_use_are_plausible(rate, tmp_path):
    assert len(read_audio(hostile.wav(tmp_path / "x.wav", rate=rate), 16_000)[0])


def test_many_channels_are_read_in_little_memory(limited, tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros((20_000, 900), np.int16), 16_000, "PCM_16")
    assert len(limited(lambda: read_audio(path, 16_000)[0]).value) == 20_000


def test_a_batch_of_many_short_clips_is_divided(limited, network):
    assert max(map(len, group_by_length([1 / 16_000] * 100_000, 30.0))) <= BATCH_CLIPS
    groups = group_by_length([1 / 16_000] * 1_000, 30.0, least=3.0)
    assert max(map(len, groups)) == 10
    clips = [np.full(1, 0.1, np.float32)] * 2_000
    outcome = limited(lambda: [len(ids) for ids in encode_clips(network, clips)])
    assert outcome.value == [1] * 2_000
    mixed = [clips[0]] * 200 + [np.full(40_000, 0.1, np.float32)]
    assert limited(lambda: [len(ids) for ids in encode_clips(network, mixed)]).value == [1] * 200 + [3_334]
    all_ids = [np.zeros(1, np.int64)] * 2_000
    assert limited(lambda: sum(map(len, decode_clips(network, all_ids, [1] * 2_000, "clip")))).value == 2_000


def test_a_batch_of_the_feature_extractor_may_not_be_padding_alone(limited):
    extractor = CodecFeatureExtractor()
    ragged = [np.zeros(1, np.float32)] * 10_000 + [np.zeros(1_000_000, np.float32)]
    assert limited(lambda: extractor(ragged, sampling_rate=16_000, return_tensors="pt")).is_refusal
    one = np.zeros(100, np.float32)
    padded = {"padding": "max_length", "max_length": 10**12}
    assert limited(lambda: extractor(one, sampling_rate=16_000, **padded)).is_refusal
    assert extractor(one, sampling_rate=16_000, return_tensors="pt").input_values.shape == torch.Size([1, 1, 100])


def test_every_limit_is_in_the_table_of_security_md():
    text = (Path(__file__).parents[2] / "SECURITY.md").read_text()
    for limit in vars(limits).values():
        if isinstance(limit, limits.Limit):
            assert f"| {limit.default:,.12g} | `{limit.variable}` |" in text
