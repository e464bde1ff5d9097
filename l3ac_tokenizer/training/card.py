"""The model card of a trained checkpoint: what it is, what was measured, on which audio it was trained."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..configuration import L3ACConfig
from .config import TrainingConfig
from .data import Clip


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
        losses += f", perceptual loss on a frozen Whisper encoder clamped at {config.weights.perceptual_max:g}"
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

Losses: {losses}. No discriminator. The statistics of `time_norm="frozen"` come from training clips.

## Training audio

{sources}
"""


def source_table(clips: Sequence[Clip], sampling_rate: int, manifest: str | Path | None) -> str:
    """Minutes of training audio by source and licence, as a Markdown table.

    `manifest` is a CSV with the columns `path`, `source` and `licence`, its paths relative to its folder;
    without one the table is by domain.
    """
    minutes: dict[tuple[str, str], float] = defaultdict(float)
    known = {}
    if manifest is not None:
        root = Path(manifest).absolute().parent
        with open(manifest, newline="") as file:
            known = {(root / row["path"]).as_posix(): (row["source"], row["licence"]) for row in csv.DictReader(file)}
    for clip in clips:
        key = known.get(Path(clip.path).absolute().as_posix(), (clip.domain, "not stated"))
        minutes[key] += clip.length / sampling_rate / 60
    rows = [f"| {source} | {licence} | {total:.1f} |" for (source, licence), total in sorted(minutes.items())]
    return "\n".join(["| source | licence | minutes |", "|---|---|---:|", *rows])
