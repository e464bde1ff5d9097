"""Latency of a codec: look-ahead, look-back and the resulting delays."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..evaluation.report.tables import table
from ..modeling import CodecModel
from ..streaming import StreamingDecoder, StreamingEncoder
from .receptive_field import (
    Reach,
    ReceptiveField,
    decoder_field,
    encoder_field,
    noise,
    perturbed_reach_of_id,
    perturbed_reach_of_sample,
    reach_of_id,
    reach_of_sample,
)

CHUNK_IDS = 128
OVERLAP_IDS = 32
"""Chunks of the published TAAE (arXiv 2411.19842): they overlap by 32 ids, and each drops 16 at either end."""

CALIBRATION_S = 2.0
"""Seconds of noise to calibrate a model that lacks statistics for the frozen time normalization."""


@dataclass(frozen=True)
class LatencyAnalysis:
    """Latency of one model, in samples unless stated otherwise.

    Attributes:
        title: Name of the model.
        sampling_rate: Sampling rate in Hz.
        hop_length: Samples per id.
        stated_id: Look-ahead of an id as streaming states it (`StreamingEncoder.latency`).
        stated_sample: Look-ahead of a decoded sample as streaming states it (`StreamingDecoder.latency`).
        id_reach: Look-back and look-ahead of an id, by gradients.
        sample_reach: Look-back and look-ahead of a decoded sample with frozen time normalization, by gradients: to the
            first sample of the first and last id that it depends on.
        perturbed_id: Largest look-ahead at which a changed sample changed a latent.
        perturbed_sample: Largest look-ahead at which a changed id changed a sample, with frozen time normalization.
        perturbed_sample_clip: The same with normalization over the clip, as published; None: the whole clip.
        push_ms: Median wall time in ms to push one id's samples into an encoder, and one id into a decoder.
        threads: torch threads during `push_ms`.
    """

    title: str
    sampling_rate: int
    hop_length: int
    stated_id: int
    stated_sample: int
    id_reach: Reach
    sample_reach: Reach
    perturbed_id: int
    perturbed_sample: int | None
    perturbed_sample_clip: int | None
    push_ms: tuple[float, float]
    threads: int

    @property
    def algorithmic(self) -> int:
        """Delay from a sample in to the same sample out without computation time: one hop and both look-aheads."""
        return self.hop_length + self.stated_id + self.stated_sample

    @property
    def chunked(self) -> int:
        """The same in TAAE's chunks, whose first kept sample waits for the end of the chunk; their ids are inexact."""
        return (CHUNK_IDS - OVERLAP_IDS // 2) * self.hop_length

    @property
    def agrees(self) -> bool:
        """True if the measured look-aheads are those that streaming states."""
        return (self.id_reach.after, self.sample_reach.after) == (self.stated_id, self.stated_sample)


def analyze_latency(
    model: CodecModel, title: str, pushes: int = 30
) -> tuple[LatencyAnalysis, dict[str, ReceptiveField]]:
    """Measure the latency of a model; also returns its receptive fields, `encoder` and `decoder`.

    A model without statistics for the frozen time normalization is calibrated on noise, which does not affect receptive
    fields. The model is modified: its parameters no longer take gradients, and it has a single codebook.

    Args:
        model: the codec.
        title: its name in tables.
        pushes: number of pushes to time.
    """
    model.eval().requires_grad_(False)
    model.decompose(1)
    config = model.config
    if not all(norm.is_calibrated for norm in model.time_norms()):
        clip = noise(round(CALIBRATION_S * config.sampling_rate))[0, 0]
        model.calibrate_time_norm([clip.to(model.device, model.dtype)])
    fields = {"encoder": encoder_field(model), "decoder": decoder_field(model)}
    id_reach = reach_of_id(fields["encoder"], config.hop_length)
    analysis = LatencyAnalysis(
        title=title,
        sampling_rate=config.sampling_rate,
        hop_length=config.hop_length,
        stated_id=StreamingEncoder(model).latency,
        stated_sample=StreamingDecoder(model).latency,
        id_reach=id_reach,
        sample_reach=reach_of_sample(fields["decoder"]),
        perturbed_id=perturbed_reach_of_id(model, id_reach),
        perturbed_sample=perturbed_reach_of_sample(model, "frozen"),
        perturbed_sample_clip=perturbed_reach_of_sample(model, "clip"),
        push_ms=_push_ms(model, pushes),
        threads=torch.get_num_threads(),
    )
    return analysis, fields


def _push_ms(model: CodecModel, pushes: int) -> tuple[float, float]:
    hop, size = model.config.hop_length, model.config.codebook_size
    encoder, decoder = StreamingEncoder(model), StreamingDecoder(model)
    audio = noise(hop * pushes)[0].to(model.device)
    ids = torch.randint(size, (1, pushes), generator=torch.Generator().manual_seed(0)).to(model.device)
    took: tuple[list[float], list[float]] = ([], [])
    for index in range(pushes):
        for seconds, push, values in (
            (took[0], encoder.push, audio[:, index * hop : (index + 1) * hop]),
            (took[1], decoder.push, ids[:, index : index + 1]),
        ):
            start = time.perf_counter()
            push(values)
            seconds.append(time.perf_counter() - start)
    encode, decode = (1e3 * statistics.median(seconds) for seconds in took)
    return encode, decode


def latency_page(analyses: Sequence[LatencyAnalysis], command: str) -> str:
    """A Markdown page with the tables of all models and a description of their columns."""
    return (
        "# Latency and receptive fields\n\n"
        f"Made by `{command}`.\n\n"
        "Look-ahead and look-back, exact to the sample, from derivatives with every maximum of the network replaced by "
        "a mean, so that every possible dependence shows. Beside them, *seen*: the largest look-ahead over 64 frames "
        "at which changing a sample, or an id, had an effect on the unchanged network. *id*: samples after (ahead) and "
        "before (back) an id's own that it depends on. *sample*: from a decoded sample to the first sample of the last "
        '(ahead) and first (back) id that it depends on, with `time_norm="frozen"`; with `time_norm="clip"`, as '
        "published, a sample depends on the whole clip, except in the light networks. Streaming states the look-ahead "
        "by derivatives (`StreamingEncoder.latency`, `StreamingDecoder.latency`). With trained weights, distant "
        "derivatives may vanish: the look-back of a model is at most that of its structure, which random weights "
        "show.\n\n"
        f"{table(_reach_rows(analyses))}\n\n"
        "## Latency\n\n"
        "What one waits for in a stream, however fast the machine is. *microphone to id*: for the samples that an id "
        "stands for (*id*) and for the encoder's look-ahead after them. *id to sound*: for the ids that the decoder "
        "looks ahead. *microphone to sound*: for both, from a sample that is spoken to the same sample heard again, at "
        f"most. *chunked*: the same as TAAE is run (arXiv 2411.19842), in chunks of {CHUNK_IDS} ids that overlap by "
        f"{OVERLAP_IDS}, half of it dropped: the first sample that a chunk keeps waits for the chunk's end. Ids of "
        "chunks differ from those of the whole clip, ids of streams do not. Computation comes on top; *push*: median "
        "wall time to encode one id's samples, and to decode one id, in a stream.\n\n"
        f"{table(_latency_rows(analyses))}\n"
    )


def _reach_rows(analyses: Sequence[LatencyAnalysis]) -> list[list[str]]:
    rows = [["", "id ahead", "seen", "id back", "sample ahead", "seen", "sample back", "clip: seen"]]
    for one in analyses:
        rows.append(
            [
                one.title,
                _samples(one.id_reach.after, one),
                _seen(one.perturbed_id),
                _samples(one.id_reach.before, one),
                _samples(one.sample_reach.after, one),
                _seen(one.perturbed_sample),
                _samples(one.sample_reach.before, one),
                _seen(one.perturbed_sample_clip),
            ]
        )
    return rows


def _latency_rows(analyses: Sequence[LatencyAnalysis]) -> list[list[str]]:
    head = ["", "id", "microphone to id", "id to sound", "microphone to sound", "chunked"]
    rows = [[*head, "push, encode", "push, decode", "threads", "as stated"]]
    for one in analyses:
        rows.append(
            [
                one.title,
                f"{_ms(one.hop_length, one):.1f} ms",
                f"{_ms(one.hop_length + one.id_reach.after, one):.1f} ms",
                f"{_ms(one.sample_reach.after, one):.1f} ms",
                f"{_ms(one.algorithmic, one):.1f} ms",
                f"{_ms(one.chunked, one):,.0f} ms",
                *(f"{ms:.1f} ms" for ms in one.push_ms),
                str(one.threads),
                "yes" if one.agrees else f"no: {one.stated_id}, {one.stated_sample}",
            ]
        )
    return rows


def _ms(samples: int, one: LatencyAnalysis) -> float:
    return 1e3 * samples / one.sampling_rate


def _samples(samples: int, one: LatencyAnalysis) -> str:
    ms = _ms(samples, one)
    return f"{samples:,} ({ms:.0f} ms)" if ms < 1000 else f"{samples:,} ({ms / 1e3:.1f} s)"


def _seen(samples: int | None) -> str:
    return "whole clip" if samples is None else f"{samples:,}"
