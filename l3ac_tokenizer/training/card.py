"""The model card of a trained checkpoint: what it is, what was measured, on which audio it was trained."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..configuration import L3ACConfig
from .config import TrainingConfig
from .corpus import Clip, Corpus


def model_card(
    config: TrainingConfig,
    network: L3ACConfig,
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
    scales = ", ".join(map(str, config.stft_scales))
    losses = f"L1 x {config.weights.l1:g}, multi-scale STFT (windows 2^i, i = {scales}) x {config.weights.stft:g}"
    if config.perceptual_encoder:
        losses += f", perceptual loss on a frozen speech encoder clamped at {config.weights.perceptual_max:g}"
    if config.weights.cosine:
        losses += f", 1 - cosine x {config.weights.cosine:g}"
    if config.discriminator and config.weights.adversarial_max:
        judge = config.discriminator
        losses += f", adversarial + 2 x feature matching clamped at {config.weights.adversarial_max:g}"
        adversary = (
            f"Discriminator: periods {judge.periods}, STFT windows {judge.windows}, one update of it to "
            f"{judge.every} of the codec from {judge.start:.0%} of the run on."
        )
    else:
        adversary = "No discriminator."
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in scores.items() if name != "score")
    return f"""---
library_name: l3ac_tokenizer
license: other
license_name: training-audio
tags: [audio, codec, audio-tokenizer]
---
# {config.preset}

L3AC (arXiv 2504.04949), trained with `recipes/train_codec.py` of l3ac_tokenizer: audio at
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

Losses: {losses}. {adversary} The statistics of `time_norm="frozen"` come from training clips.

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
