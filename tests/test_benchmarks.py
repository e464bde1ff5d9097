"""Benchmarks measure what they state, and drop nothing silently."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import (
    onnx_operators,
    packing,
    precision,
    report,
    speed,
    startup,
    streaming,
    training_run,
    training_step,
)
from benchmarks.codecs import BENCHMARK_CODECS, BUILD, FunctionCodec, build
from benchmarks.timing import gemm_peaks
from l3ac_tokenizer import L3ACModel, preset_config
from l3ac_tokenizer.evaluation import memory
from l3ac_tokenizer.evaluation.timing import Timing, flops, growth_exponent, median, timed
from l3ac_tokenizer.tokenization import write_npy_index, write_packed_parquet
from l3ac_tokenizer.training.config import Phase, load_config, parse_overrides


def test_both_clocks_run_and_only_the_wall_clock_runs_while_the_process_sleeps():
    _, timing = timed(lambda: time.sleep(0.05))
    assert timing.wall >= 0.05 and timing.cpu < timing.wall
    assert median([Timing(1, 9), Timing(5, 2), Timing(3, 4)]) == Timing(3, 4)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_the_growth_of_a_power_is_its_exponent(exponent):
    lengths = [1.0, 10.0, 600.0]
    assert growth_exponent(lengths, [7 * length**exponent for length in lengths]) == pytest.approx(exponent)
    assert growth_exponent([10.0], [1.0]) is None


@torch.no_grad()
def test_operations_of_every_kind_of_product_are_counted():
    x = torch.randn(2, 7, 16)
    linear, conv, lstm = nn.Linear(16, 5), nn.Conv1d(16, 4, 3), nn.LSTM(16, 8)
    assert flops(lambda: linear(x)) == 2 * 14 * 16 * 5
    assert flops(lambda: conv(x.transpose(1, 2))) == 2 * 2 * 5 * 16 * 4 * 3
    q = torch.randn(1, 2, 9, 8)
    assert flops(lambda: nn.functional.scaled_dot_product_attention(q, q, q)) == 2 * 2 * 2 * 9 * 9 * 8
    assert flops(lambda: lstm(x)) == 2 * 14 * 4 * 8 * (16 + 8)


def test_the_peak_of_the_machine_is_a_number_above_zero(monkeypatch):
    peaks = gemm_peaks(size=64)
    assert peaks.keys() >= {"float32, torch.mm", "bfloat16, torch.mm"}
    assert all(speed > 0 for speed in peaks.values())


def test_every_codec_gets_the_same_seconds_of_audio_at_its_own_rate():
    codec = FunctionCodec("same", 24_000, lambda audio: audio, lambda ids: ids)
    encode, decode = codec.passes(0.5, 3)
    audio = decode(encode())
    assert audio.shape == (3, 1, 12_000)
    assert torch.equal(audio, codec.passes(0.5, 3)[0]())


def test_running_out_of_memory_or_time_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10 << 20)
    assert memory.measure_pass(BUILD, ["ours", str(tmp_path)], 1.0, 1, 1).failure == "out of memory (limit 0.0 GiB)"
    monkeypatch.setattr(memory, "TIME_LIMIT_S", 0.01)
    assert memory.measure_pass(BUILD, ["ours", str(tmp_path)], 1.0, 1, 1).failure == "over 0.01 s"
    assert "no such thing" in memory._reason("Traceback\nValueError: no such thing", 1, 1)


@pytest.mark.slow
def test_a_pass_in_a_separate_process_reports_its_peaks(tmp_path):
    done = memory.measure_pass(BUILD, ["ours", str(tmp_path)], 2.0, 1, 1)
    assert done.failure is None, done
    assert done.standing_mib > 100 and done.encode_mib > 0 and done.decode_mib > 0 and done.pass_s > 0


@pytest.fixture
def two_codecs(monkeypatch):
    """A codec that multiplies and one that never fits, in place of all others."""
    weight = torch.randn(64, 64)

    def multiplying(scratch):
        return FunctionCodec(
            "multiplying", 6400, lambda audio: audio.reshape(-1, 64) @ weight, lambda ids: ids @ weight, weight.numel()
        )

    monkeypatch.setattr(speed, "gemm_peaks", lambda: {"float32, torch.mm": 100.0, "bfloat16, torch.mm": 300.0})
    for name in ("ours", "published"):
        monkeypatch.setitem(BENCHMARK_CODECS, name, (name.title(), multiplying))

    def measured(builder, arguments, seconds, batch, threads):
        name = arguments[0]
        if name == "published" and seconds > 10:
            return memory.MeasuredPass(failure="out of memory (limit 1.0 GiB)")
        return memory.MeasuredPass(standing_mib=100.0, encode_mib=2 * seconds, decode_mib=seconds**2, pass_s=1e-3)

    monkeypatch.setattr(speed.memory, "measure_pass", measured)


def test_the_page_has_a_row_for_every_codec_length_and_batch(two_codecs, tmp_path):
    result = speed.measure(["ours", "published"], [1.0, 10.0, 20.0], [1, 2], threads=1, rounds=3, scratch=tmp_path)
    page = speed.markdown(json.loads(json.dumps(result)))
    assert len(result["rows"]) == 12
    assert page.count("| out of memory (limit 1.0 GiB) |") == 1
    assert page.count("| out of memory (limit 1.0 GiB) already at 20 s, batch 1 |") == 1
    assert all(f"### {seconds:g} s, batch {batch}" in page for seconds in (1, 10, 20) for batch in (1, 2))
    done = [row for row in result["rows"] if row["failure"] is None]
    assert all(row["rounds"] == 3 and row["encode_s"] > 0 for row in done)
    (ours, published) = result["growth"]
    assert ours["lengths"] == [10.0, 20.0] and ours["encode_mib"] == pytest.approx(1)
    assert ours["decode_mib"] == pytest.approx(2)
    assert published["encode_mib"] is None
    (counted, _) = result["products"]
    assert counted["encode_gflop"] == pytest.approx(2e-9 * 64_000 * 64)
    assert "aten::mm" in counted["encode_operations_s"] and "### Profile" in page


def test_tables_of_other_lengths_stay_if_they_are_of_the_same_machine(two_codecs, tmp_path):
    def measured(*lengths):
        return speed.measure(["ours"], list(lengths), [1], threads=1, rounds=1, scratch=tmp_path)

    before, after = measured(10.0, 20.0), measured(20.0, 40.0)
    both = speed.merged(after, before)
    assert sorted(row["seconds"] for row in both["rows"]) == [10, 20, 40]
    assert [row for row in both["rows"] if row["seconds"] == 20] == [
        row for row in after["rows"] if row["seconds"] == 20
    ]
    assert sorted(both["growth"][0]["lengths"]) == [10, 20, 40]
    assert speed.merged(after, {**before, "machine": {**before["machine"], "threads": 7}}) == after
    assert speed.merged(after, None) == after


def test_a_slow_codec_is_timed_in_fewer_rounds_but_once(two_codecs, monkeypatch, tmp_path):
    monkeypatch.setattr(speed, "BUDGET_S", 2.0)
    rows = [{"codec": "ours", "seconds": 1.0, "batch": 1, "failure": None, "pass_s": cost} for cost in (1.0, 50.0)]
    for row, rounds in zip(rows, (2, 1), strict=True):
        speed.add_times([row], {"ours": build("ours", tmp_path)}, rounds=5)
        assert row["rounds"] == rounds


def test_pushes_hold_every_value_once_and_in_order():
    values = torch.arange(1000)[None]
    chunks = list(streaming.in_pushes(values, 2.37))
    assert torch.equal(torch.cat(chunks, dim=1), values[:, : int(421 * 2.37)])
    assert {chunk.shape[1] for chunk in chunks} == {2, 3}


def test_the_first_half_second_of_a_stream_is_not_counted(monkeypatch):
    pushed = []

    def push(chunk):
        pushed.append(chunk)
        return []

    monkeypatch.setattr(streaming, "timed", lambda call: (call(), Timing(1e-3 * len(pushed), 0.0)))  # 1, 2, 3 … ms
    figures = streaming.latencies(streaming.push_times(push, [torch.zeros(1, 1)] * 106, push_ms=100), push_ms=100)
    assert len(pushed) == 106
    assert figures["p50_ms"] == pytest.approx(56) and figures["p99_ms"] == pytest.approx(105)
    assert figures["real_time_factor"] == pytest.approx(0.56)


def test_operators_of_a_profile_are_summed_by_kind_and_divided_by_the_runs(tmp_path):
    events = [
        {"cat": "Session", "name": "model_run", "dur": 9000, "args": {}},
        {"cat": "Node", "name": "node_1_kernel_time", "dur": 1000, "args": {"op_name": "Cos"}},
        {"cat": "Node", "name": "node_2_kernel_time", "dur": 3000, "args": {"op_name": "MatMul"}},
        {"cat": "Node", "name": "node_2_fence_before", "dur": 5000, "args": {"op_name": "MatMul"}},
        {"cat": "Node", "name": "node_3_kernel_time", "dur": 1000, "args": {"op_name": "Cos"}},
    ]
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps(events))
    assert list(onnx_operators._milliseconds(profile, runs=2).items()) == [("MatMul", 1.5), ("Cos", 1.0)]


def test_losses_are_differences_of_the_same_clips():
    ids = np.zeros((1, 10), dtype=np.int64)
    reference = [
        precision.PrecisionPass(ids, 1, 2, {"STOI": 0.9, "PESQ-WB": 2.0}),
        precision.PrecisionPass(ids, 1, 2, {"STOI": 0.7}),
    ]
    changed = ids.copy()
    changed[..., :3] = 1
    own = [
        precision.PrecisionPass(changed, 3, 4, {"STOI": 0.8, "PESQ-WB": 1.5}),
        precision.PrecisionPass(ids, 3, 4, {"PESQ-WB": 9.0}),
    ]
    row = precision.compared(own, reference)
    assert (row["encode_s"], row["decode_s"], row["changed_ids"]) == (6, 8, 3)
    assert row["STOI loss"]["count"] == 1 and row["STOI loss"]["mean"] == pytest.approx(0.1)
    assert row["PESQ-WB loss"]["mean"] == pytest.approx(0.5)


def test_a_section_is_replaced_and_the_others_stay(tmp_path):
    page = tmp_path / "speed.md"
    facts = report.machine(1)
    started = {"machine": facts, "rounds": 3, "seconds": {"import nothing": 1.25}}
    pushed = {"machine": facts, "seconds": 1, "rows": []}
    report.record("startup", started, page)
    report.record("streaming", pushed, page)
    report.record("startup", {**started, "seconds": {"import nothing": 2.5}}, page)
    text = page.read_text()
    assert "| `import nothing` | 2.50 s |" in text and "1.25" not in text
    assert text.index("## Streaming") < text.index("## Start-up")
    assert json.loads(page.with_suffix(".json").read_text())["streaming"] == pushed


def test_every_program_of_the_start_up_is_python():
    for program in startup.PROGRAMS.values():
        compile(program, "program", "exec")


def test_steps_of_all_variants_are_timed_and_the_first_round_is_not_counted(monkeypatch):
    calls = {"published": 0, "ours": 0}

    def variant(name):
        network = nn.Linear(1, 1)

        def forward(audio):
            calls[name] += 1
            return network(audio[..., None])[..., 0]

        return network, forward

    monkeypatch.setattr(training_step, "VARIANTS", {name: (name, lambda name=name: variant(name)) for name in calls})
    clock = iter([100.0, 100.0, 4.0, 1.0, 6.0, 1.0, 5.0, 2.0])
    monkeypatch.setattr(training_step, "timed", lambda step: (step(), Timing(next(clock), 0.0)))
    result = training_step.measure(["published", "ours"], batch=2, seconds=0.5, threads=1, rounds=3)
    assert calls == {"published": 4, "ours": 4}
    assert result["step_s"] == {"published": 5.0, "ours": 1.0}
    assert "| ours | 1.00 s | 1.00 | 1.00 s | 5.00 |" in training_step.markdown(result)


STAGES = {name for name, setting in training_run.SETTINGS.items() if setting.config != "l3ac-1k-cpu"}


def configuration(setting):
    return load_config(setting.config, parse_overrides(setting.arguments()))


@pytest.mark.parametrize("name", sorted(STAGES))
def test_every_stage_is_measured_with_its_own_crops_and_losses(name):
    setting = training_run.SETTINGS[name]
    config, own = configuration(setting), load_config(setting.config)
    assert config.stage == name.partition("-")[0] == own.stage
    assert (setting.crop_seconds, setting.batch_size) == (own.phases[0].crop_seconds, own.phases[0].batch_size)
    assert config.perceptual_encoder == "ENCODER"
    assert bool(config.weights.adversarial_max and config.discriminator) == (name in ("decode-discriminator", "joint"))
    assert config.weights.perceptual_relative == own.weights.perceptual_relative


def test_a_checkpoint_to_start_from_has_what_the_stage_takes(tmp_path):
    training_run.random_checkpoint(training_run.SETTINGS["distill"].network, tmp_path)
    config = configuration(training_run.SETTINGS["distill"])
    model = L3ACModel.from_pretrained(tmp_path)
    assert model.config.analysis == "spectral" and model.config.fine_hop == preset_config(config.preset).fine_hop


@pytest.mark.parametrize("name", sorted(training_run.SETTINGS.keys() - STAGES))
def test_every_setting_is_a_configuration_of_the_recipe(name):
    setting = training_run.SETTINGS[name]
    config = configuration(setting)
    assert config.init_from == "l3ac-1k"
    (phase,) = config.phases
    assert phase == Phase(setting.crop_seconds, setting.batch_size, compile=setting.compile)
    assert config.mixed_precision == setting.precision
    assert bool(config.weights.perceptual_max) == name.startswith("perceptual")
    assert (config.discriminator is not None) == (name == "discriminator")
    assert (config.stage == "decode") == (name == "frozen")


def test_the_first_lines_of_a_log_are_compilers_compiling(monkeypatch):
    popen = subprocess.Popen

    def run_that_logs(command, env):
        lines = [{"audio_seconds_per_second": speed} for speed in (0.1, 0.2, 3.0, 5.0, 4.0)]
        log = Path(command[command.index("--run") + 1], "log.jsonl")
        log.write_text("\n".join(json.dumps(line) for line in [*lines, {"held_out/ids": 1}]))
        return popen(["true"])

    monkeypatch.setattr(training_run.subprocess, "Popen", run_that_logs)
    found = training_run.measure("longer", ["data"], "encoder", 50)
    assert (found["slowest"], found["audio_seconds_per_second"], found["fastest"]) == (3.0, 4.0, 5.0)
    assert found["updates_per_second"] == pytest.approx(4.0 / 3.24)


def test_a_page_opens_and_ends_with_what_no_benchmark_makes(tmp_path):
    page = tmp_path / "speed.md"
    report.record("startup", {"machine": report.machine(1), "rounds": 3, "seconds": {"nothing": 1.25}}, page)
    text = page.read_text()
    assert text.startswith("# Speed\n")
    assert text.index(report.INTRODUCTION.read_text().strip()) < text.index("## Start-up") < text.index("## Where the")


# --- packing ----------------------------------------------------------------------------------------------------


def test_every_read_has_all_tokens_of_the_corpus(tmp_path):
    packing.make_corpus(tmp_path / "corpus", 10_000, 59)
    write_npy_index(tmp_path / "corpus")
    corpus = packing.packed(tmp_path / "corpus", 64)
    assert corpus.num_tokens == pytest.approx(10_000, rel=0.05)
    write_packed_parquet(corpus, tmp_path / "packed")
    for name, (part, read) in packing.READS.items():
        packing.drop_from_cache(tmp_path / part)
        found = list(read(tmp_path / part, 64))
        if name.startswith("bare"):
            assert sum(map(len, found)) == len(np.load(tmp_path / "corpus" / "ids.npy")) // 64 * 64
        else:
            assert sum(int((each["document_ids"] >= 0).sum()) for each in found) == corpus.num_tokens, name
