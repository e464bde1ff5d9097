"""What a codec must wait for: look-ahead, look-back, and the latencies that follow, for `l3ac analyze`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..modeling import CodecModel
from ..streaming import StreamingDecoder, StreamingEncoder
from .receptive_field import (
    Field,
    Reach,
    decoder_field,
    encoder_field,
    noise,
    perturbed_reach_of_id,
    perturbed_reach_of_sample,
    reach_of_id,
    reach_of_sample,
)
from .tables import table

CHUNK_IDS = 128
OVERLAP_IDS = 32
"""Chunks of the published TAAE (arXiv 2411.19842): they overlap by 32 ids, of which each gives up its outer 16."""

CALIBRATION_S = 2.0
"""Noise on which a model without statistics for the frozen time normalisation is calibrated."""


@dataclass(frozen=True)
class Analysis:
    """Everything in samples but what says otherwise.

    Attributes:
        title: What the model is called.
        sampling_rate: In Hz.
        hop_length: Samples an id.
        stated_id: Look-ahead of an id that streaming states (`StreamingEncoder.latency`).
        stated_sample: Look-ahead of a decoded sample that streaming states (`StreamingDecoder.latency`).
        id_reach: Of an id, by gradients.
        sample_reach: Of a decoded sample with frozen time normalisation, by gradients; ahead from a sample to the first
            sample of the last id it depends on, back to that of the first.
        perturbed_id: Largest look-ahead at which a changed sample changed a latent.
        perturbed_sample: Largest look-ahead at which a changed id changed a sample, frozen.
        perturbed_sample_clip: The same as published, normalised over the clip; None: the whole clip.
        push_ms: Median wall time of a push of one id's samples and of a push of one id.
        threads: Of torch, for `push_ms`.
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
        """From a sample in to the same sample out, computed in no time: an id's own samples and both look-aheads."""
        return self.hop_length + self.stated_id + self.stated_sample

    @property
    def chunked(self) -> int:
        """The same in TAAE's chunks: the first that a chunk keeps waits for its end. Their ids are no longer exact."""
        return (CHUNK_IDS - OVERLAP_IDS // 2) * self.hop_length

    @property
    def agrees(self) -> bool:
        """Whether what was measured is what streaming states."""
        return (self.id_reach.after, self.sample_reach.after) == (self.stated_id, self.stated_sample)


def analyze(model: CodecModel, title: str, pushes: int = 30) -> tuple[Analysis, dict[str, Field]]:
    """Measure a model; also the fields that the picture shows, `encoder` and `decoder`.

    A model without statistics for the frozen time normalisation is calibrated on noise, which no reach depends on.
    Afterwards its parameters no longer take gradients, and its ids are one stream.
    """
    model.eval().requires_grad_(False)
    model.decompose(1)
    config = model.config
    if not all(int(norm.num_clips_tracked) for norm in model._time_norms()):
        clip = noise(round(CALIBRATION_S * config.sampling_rate))[0, 0]
        model.calibrate_time_norm([clip.to(model.device, model.dtype)])
    fields = {"encoder": encoder_field(model), "decoder": decoder_field(model)}
    id_reach = reach_of_id(fields["encoder"], config.hop_length)
    analysis = Analysis(
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
        for seconds, push, piece in (
            (took[0], encoder.push, audio[:, index * hop : (index + 1) * hop]),
            (took[1], decoder.push, ids[:, index : index + 1]),
        ):
            start = time.perf_counter()
            push(piece)
            seconds.append(time.perf_counter() - start)
    encode, decode = (1e3 * statistics.median(seconds) for seconds in took)
    return encode, decode


def markdown(analyses: Sequence[Analysis], command: str) -> str:
    """A page with the table of all models, and what its columns mean."""
    return (
        "# Latency and receptive fields\n\n"
        f"Made by `{command}`.\n\n"
        "Look-ahead and look-back, exact to the sample: derivatives with every maximum of the network replaced by a "
        "mean, so that nothing that can matter is hidden; beside them, *seen*: the farthest change over 64 frames when "
        "a sample, or an id, of the network as it is was changed. *id*: samples after an id's own that it depends on, "
        "and before. *sample*: from a decoded sample to the first sample of the last id that it depends on, and back "
        'to that of the first, with `time_norm="frozen"`; with `time_norm="clip"`, as published, a sample depends on '
        "the whole clip. What streaming states (`StreamingEncoder.latency`, `StreamingDecoder.latency`) is the "
        "look-ahead by derivatives. Trained weights may make far derivatives 0 in float32: the look-back of a model is "
        "at most that of its structure, which random weights show.\n\n"
        f"{table(_reach_rows(analyses))}\n\n"
        "## Latency\n\n"
        "*algorithmic*: from a sample in to the same sample out, encoded and decoded in streams: an id's own samples "
        f"and both look-aheads. *chunked*: as TAAE is run (arXiv 2411.19842), in chunks of {CHUNK_IDS} ids that "
        f"overlap by {OVERLAP_IDS}, half of it dropped: the first sample that a chunk keeps waits for the chunk's end; "
        "their ids differ from those of the whole, those of streams do not. *push*: median wall time of encoding one "
        "id's samples, and of decoding one id, in a stream.\n\n"
        f"{table(_latency_rows(analyses))}\n"
    )


def _reach_rows(analyses: Sequence[Analysis]) -> list[list[str]]:
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


def _latency_rows(analyses: Sequence[Analysis]) -> list[list[str]]:
    rows = [["", "id", "algorithmic", "chunked", "push, encode", "push, decode", "threads", "as stated"]]
    for one in analyses:
        rows.append(
            [
                one.title,
                f"{_ms(one.hop_length, one):.1f} ms",
                f"{_ms(one.algorithmic, one):.0f} ms",
                f"{_ms(one.chunked, one):,.0f} ms",
                *(f"{ms:.1f} ms" for ms in one.push_ms),
                str(one.threads),
                "yes" if one.agrees else f"no: {one.stated_id}, {one.stated_sample}",
            ]
        )
    return rows


def _ms(samples: int, one: Analysis) -> float:
    return 1e3 * samples / one.sampling_rate


def _samples(samples: int, one: Analysis) -> str:
    ms = _ms(samples, one)
    return f"{samples:,} ({ms:.0f} ms)" if ms < 1000 else f"{samples:,} ({ms / 1e3:.1f} s)"


def _seen(samples: int | None) -> str:
    return "whole clip" if samples is None else f"{samples:,}"
