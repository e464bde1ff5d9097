"""The model card of a trained checkpoint: what it is, what was measured, on which audio it was trained."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..configuration import CodecConfig
from .config import TrainingConfig
from .corpus import Clip, Corpus

PAPERS = {"l3ac": "L3AC (arXiv 2504.04949)", "taae": "TAAE (arXiv 2411.19842)"}
"""What a family is called and where it comes from, by `model_type`."""


FROZEN = ' The statistics of `time_norm="frozen"` come from training clips.'


def _losses(config: TrainingConfig) -> Iterator[str]:
    """Every loss that the run had, with its weight."""
    weights = config.weights
    decay = f" x {config.reconstruction_decay:g}^update" if config.reconstruction_decay < 1 else ""
    yield f"L1 x {weights.l1:g}{decay}"
    if weights.stft:
        scales = ", ".join(map(str, config.stft_scales))
        yield f"multi-scale STFT (windows 2^i, i = {scales}) x {weights.stft:g}{decay}"
    if weights.stft_l1:
        yield f"L1 of one STFT's magnitudes x {weights.stft_l1:g}{decay}"
    if config.perceptual_encoder and weights.perceptual_max:
        yield f"perceptual loss on a frozen speech encoder clamped at {weights.perceptual_max:g}"
    if config.perceptual_encoder and weights.perceptual_relative:
        yield f"relative L1 over all layers of a frozen speech encoder x {weights.perceptual_relative:g}"
    if weights.cosine:
        yield f"1 - cosine x {weights.cosine:g}"
    if config.discriminator and weights.adversarial_max:
        matching = "relative" if config.discriminator.kind == "taae" else "adversarial + 2 x"
        yield f"{matching} feature matching clamped at {weights.adversarial_max:g}"


def _adversary(config: TrainingConfig) -> str:
    judge = config.discriminator
    if judge is None or not config.weights.adversarial_max:
        return "No discriminator."
    sizes = (
        f"STFTs of {judge.fft_sizes} samples, {judge.channels} channels"
        if judge.kind == "taae"
        else f"periods {judge.periods}, STFT windows {judge.windows}"
    )
    return (
        f"Discriminator: {sizes}, one update of it to {judge.every} of the codec from {judge.start:.0%} of the run on."
    )


def model_card(
    config: TrainingConfig,
    network: CodecConfig,
    scores: Mapping[str, float],
    training: str,
    sources: str,
) -> str:
    """Markdown with the YAML head that the Hugging Face hub reads.

    Args:
        config: Of the run.
        network: Of the model.
        scores: Held-out scores by name, as `validate` gives them.
        training: One sentence on steps, hours and minutes.
        sources: Markdown table of the training audio, from `source_table`.
    """
    losses, adversary = ", ".join(_losses(config)), _adversary(config)
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in scores.items() if name != "score")
    return f"""---
library_name: l3ac_tokenizer
license: other
license_name: training-audio
tags: [audio, codec, audio-tokenizer]
---
# {config.preset}

{PAPERS[network.model_type]}, trained with `recipes/train_codec.py` of l3ac_tokenizer: audio at
{network.sampling_rate} Hz as one stream of {network.frame_rate:.2f} ids a second out of
{network.codebook_size:,}, {network.bits_per_second:.0f} bits a second.

```python
import l3ac_tokenizer
from transformers import AutoModel
model = AutoModel.from_pretrained("{config.preset}")
```

## Measured on the held-out clips

Whole speakers and pieces kept out of training; they chose the checkpoint, so they flatter it a little.

| measure | value |
|---|---:|
{rows}

## Training

{training}

Losses: {losses}. {adversary}{FROZEN if network.model_type == "l3ac" else ""}

## Training audio

{sources}
"""


def source_table(clips: Sequence[Clip], corpus: Corpus, manifest: str | Path | None) -> str:
    """Training audio by source and licence, as a Markdown table: clips, and minutes where they are known.

    `manifest` is a CSV with the columns `path`, `source` and `licence`, its paths relative to its folder;
    without one the table is by domain.
    """
    minutes: dict[tuple[str, str], list[float | None]] = defaultdict(list)
    known = {}
    if manifest is not None:
        root = Path(manifest).absolute().parent
        with open(manifest, newline="") as file:
            known = {(root / row["path"]).as_posix(): (row["source"], row["licence"]) for row in csv.DictReader(file)}
    for clip in clips:
        key = known.get(Path(clip.path).absolute().as_posix(), (clip.domain, "not stated"))
        minutes[key].append(corpus.minutes(clip))
    rows = []
    for (source, licence), of_clips in sorted(minutes.items()):
        total = "not measured" if None in of_clips else f"{sum(filter(None, of_clips)):.1f}"
        rows.append(f"| {source} | {licence} | {len(of_clips)} | {total} |")
    return "\n".join(["| source | licence | clips | minutes |", "|---|---|---:|---:|", *rows])
