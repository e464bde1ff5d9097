"""Model card of a trained checkpoint: network, scores, losses, and training audio."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..configuration import CodecConfig
from ..listing.table import read_table
from ..logs import get_logger
from ..markup import markdown_code, table_row
from ..names import public_name
from .config import LossWeights, TrainingConfig
from .data.corpus import Corpus, TrainingClip
from .stages import MEL_STAGES

logger = get_logger(__name__)

PAPERS = {"l3ac": "L3AC (arXiv 2504.04949)", "taae": "TAAE (arXiv 2411.19842)"}
"""Name and paper of each family, by `model_type`."""

FROZEN = ' The statistics of `time_norm="frozen"` come from training clips.'


def _calibrated(config: TrainingConfig, network: CodecConfig) -> bool:
    """Whether the checkpoint has statistics for the decoder's time normalization."""
    return getattr(network, "synthesis", None) == "waveform" and config.stage not in MEL_STAGES


def _losses(config: TrainingConfig) -> str:
    """Every loss of the run with its weight, phase by phase if they differ."""
    parts: list[tuple[float, str]] = []
    for phase in config.phases:
        losses = ", ".join(_of_phase(config, phase.weights or config.weights))
        if parts and parts[-1][1] == losses:
            parts.pop()
        parts.append((phase.until, losses))
    if len(parts) == 1:
        return f"Losses: {parts[0][1]}."
    return f"Losses {'; '.join(f'up to {until:.0%} of the run: {losses}' for until, losses in parts)}."


def _of_phase(config: TrainingConfig, weights: LossWeights) -> Iterator[str]:
    decay = f" x {config.reconstruction_decay:g}^update" if config.reconstruction_decay < 1 else ""
    if weights.l1:
        yield f"L1 x {weights.l1:g}{decay}"
    if weights.stft:
        scales = ", ".join(map(str, config.stft_scales))
        yield f"multi-scale STFT (windows 2^i, i = {scales}) x {weights.stft:g}{decay}"
    if weights.mel:
        yield f"log-mels of the spectral head x {weights.mel:g}"
    if weights.distillation:
        yield f"distance to the features and latents of {_model(config.teacher)} x {weights.distillation:g}"
    if weights.spectral:
        yield f"log magnitudes, log-mels and spectral convergence at five resolutions x {weights.spectral:g}"
    if weights.stft_l1:
        yield f"L1 of one STFT's magnitudes x {weights.stft_l1:g}{decay}"
    if config.perceptual_encoder and weights.perceptual_max:
        yield f"perceptual loss on {_encoder(config)} {_clamp(weights.perceptual_max)}"
    if config.perceptual_encoder and weights.perceptual_relative:
        yield f"relative L1 over all layers of {_encoder(config)} x {weights.perceptual_relative:g}"
    if weights.cosine:
        yield f"1 - cosine x {weights.cosine:g}"
    if config.discriminator and weights.adversarial_max:
        matching = {"taae": "relative", "small": "0.5 x adversarial + 5 x relative"}.get(
            config.discriminator.kind, "adversarial + 2 x"
        )
        yield f"{matching} feature matching {_clamp(weights.adversarial_max)}"


def _encoder(config: TrainingConfig) -> str:
    window = "the crop alone" if config.perceptual_seconds is None else f"a window of {config.perceptual_seconds:g} s"
    return f"the frozen speech encoder {_model(config.perceptual_encoder)} (a Whisper sees {window})"


def _model(name: str | None) -> str:
    """A model as the card names it: of directories, only the last part."""
    return markdown_code(public_name(str(name)))


def _clamp(most: float) -> str:
    return "without clamp" if math.isinf(most) else f"clamped at {most:g}"


def _discriminator(config: TrainingConfig) -> str:
    options = config.discriminator
    if options is None or not any((phase.weights or config.weights).adversarial_max for phase in config.phases):
        return "No discriminator."
    sizes = (
        f"STFTs of {options.fft_sizes} samples, {options.channels} channels"
        if options.kind != "l3ac"
        else f"periods {options.periods}, STFT windows {options.windows}"
    )
    return (
        f"Discriminator: {sizes}, one update per {options.every} of the codec, from {options.start:.0%} of the run on."
    )


def _measured(scores: Mapping[str, float]) -> str:
    """Section with the held-out scores, or a sentence saying that nothing was held out."""
    rows = "\n".join(table_row([name, f"{value:.3f}"]) for name, value in scores.items() if name != "score")
    if not rows:
        return "Nothing was held out of training, so nothing was measured."
    return f"""## Measured on the held-out clips

These clips were kept out of training, but the best weights were chosen by them, so the scores are slightly optimistic.

| measure | value |
|---|---:|
{rows}"""


def model_card(
    config: TrainingConfig,
    network: CodecConfig,
    scores: Mapping[str, float],
    training: str,
    sources: str,
) -> str:
    """Markdown with the YAML front matter that the Hugging Face hub reads.

    Args:
        config: Configuration of the run.
        network: Configuration of the model.
        scores: Held-out scores by name, as returned by `validate`.
        training: One sentence on steps, hours and minutes.
        sources: Markdown table of the training audio, from `source_table`.
    """
    changes = ", ".join(f"{name} = {value}" for name, value in config.model.items())
    start = f"from {_model(config.init_from)}, as far as its tensors fit" if config.init_from else "from random weights"
    if config.stage == "decode":
        kept = "whose encoder it kept: the ids are the same, only the decoder was trained"
        start = f"from {_model(config.init_from)}, {kept}"
    return f"""---
library_name: l3ac_tokenizer
license: other
license_name: training-audio
tags: [audio, codec, audio-tokenizer]
---
# {config.preset}, trained with l3ac_tokenizer

{PAPERS[network.model_type]}, the network `{config.preset}`{f" with {changes}" if changes else ""}, trained with
`l3ac train` of l3ac_tokenizer: audio at {network.sampling_rate} Hz, {network.frame_rate:.2f} ids a second,
codebook size {network.codebook_size:,}, {network.bits_per_second:.0f} bits a second.

```python
import l3ac_tokenizer
from transformers import AutoModel
model = AutoModel.from_pretrained("FOLDER")  # the folder of this file, or the name of its repository
```

{_measured(scores)}

## Training

{training} It began {start}.

{_losses(config)} {_discriminator(config)}{FROZEN if _calibrated(config, network) else ""}

## Training audio

{sources}
"""


def source_table(clips: Sequence[TrainingClip], corpus: Corpus, manifest: str | Path | None) -> str:
    """Markdown table of the training audio by source and license, with clips and, if known, minutes.

    `manifest` is a CSV with the columns `path` (relative to the file), `source` and `licence`; without one the table
    is by domain.

    Raises:
        DataError: The manifest lacks a column or a value.
    """
    minutes: dict[tuple[str, str], list[float | None]] = defaultdict(list)
    known = {}
    if manifest is not None:
        root = Path(manifest).parent
        for _, row in read_table(manifest, "path", "source", "licence"):
            known[os.path.realpath(root / row["path"])] = (row["source"], row["licence"])
    for clip in clips:
        key = known.get(os.path.realpath(clip.path), (clip.domain, "not stated"))
        minutes[key].append(corpus.minutes(clip))
    if known and all(terms == "not stated" for _, terms in minutes):
        logger.warning("%s lists none of the training audio", manifest)
    rows = []
    for (source, terms), of_clips in sorted(minutes.items()):
        total = "not measured" if None in of_clips else f"{sum(filter(None, of_clips)):.1f}"
        rows.append(table_row([source, terms, str(len(of_clips)), total]))
    return "\n".join(["| source | license | clips | minutes |", "|---|---|---:|---:|", *rows])
