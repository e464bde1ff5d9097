"""Clips continued by a `SpeechLM`: ids decoded to sound while they are drawn, and a page to listen to them.

Axes: T samples, N ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..asr import ASR_RATE, Recognizer
from ..audio import read_audio, write_audio
from ..files import atomic_write
from ..inference import encode_clips
from ..listening_page import facts_table, listening_page, players_table, section
from ..loudness import leveled
from ..markup import relative_url
from ..modeling import CodecModel
from ..streaming import StreamingDecoder
from .model import SpeechLM


@dataclass(frozen=True)
class Sampling:
    """Settings of a continuation.

    Attributes:
        prompt: Ids that are taken from the clip, at most.
        count: Ids that continue them.
        temperature: See `FSQHead.sample`.
        top_p: See `FSQHead.sample`; of each digit.
        seed: Of the first continuation of a clip; each further one has the next.
    """

    prompt: int
    count: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0


def stream_continuation(
    model: SpeechLM, codec: CodecModel, ids: np.ndarray, sampling: Sampling, number: int = 0
) -> Iterator[np.ndarray]:
    """Sound of ids (N,) and of their continuation, in chunks (T,) float32, each as soon as its ids are drawn.

    Together the chunks are `codec.decode` of all ids with `time_norm="frozen"`. Nothing is kept but the state of the
    decoder and the cache of the language model, which its context bounds.

    Args:
        model: The language model.
        codec: Its codec, see `StreamingDecoder`.
        ids: The beginning.
        sampling: How it is continued.
        number: Which continuation; each has a seed of its own.

    Raises:
        ValueError: The codec has no statistics for frozen time normalization.
    """
    decoder = StreamingDecoder(codec)
    given = torch.from_numpy(np.asarray(ids, dtype=np.int64))[None]
    yield _samples(decoder.push(given))
    seed = sampling.seed + number
    for drawn in model.draw_ids(given.to(model.device), sampling.count, sampling.temperature, sampling.top_p, seed):
        yield _samples(decoder.push(drawn))
    yield _samples(decoder.flush())


def write_continuations(
    prompts: Sequence[Path],
    model: SpeechLM,
    codec: CodecModel,
    sampling: Sampling,
    continuations: int,
    facts: Mapping[str, str],
    hear: Recognizer | None,
    folder: Path,
) -> Path:
    """Continue clips, and write `index.html` and its audio into a folder; returns the path of the page.

    For each clip the page has the original, its beginning through the codec alone, and the continuations, which start
    with that beginning.

    Args:
        prompts: Audio files.
        model: The language model, in evaluation mode.
        codec: Its codec, in evaluation mode.
        sampling: How clips are continued.
        continuations: Number of continuations of each clip.
        facts: Names and values in a table above the clips.
        hear: Recognizer that writes the text beside each player; None: no text.
        folder: Output folder, which is created.

    Raises:
        AudioError: A clip cannot be read.
        OSError: A file cannot be read or written.
        ValueError: The codec has no statistics for frozen time normalization.
    """
    rate, hop = codec.config.sampling_rate, codec.config.hop_length
    folder.mkdir(parents=True, exist_ok=True)
    sections = [section("Settings", facts_table(facts))]
    for place, path in enumerate(prompts, start=1):
        wave, _ = leveled(read_audio(path, rate)[0], rate, model.config.level_lufs)
        ids = encode_clips(codec, [wave[: sampling.prompt * hop]])[0]
        only_codec = Sampling(sampling.prompt, 0)
        sounds = {
            "original": iter([wave[: (sampling.prompt + sampling.count) * hop]]),
            "beginning, through the codec": stream_continuation(model, codec, ids, only_codec),
        }
        for number in range(continuations):
            title = f"continuation {number + 1}"
            sounds[title] = stream_continuation(model, codec, ids, sampling, number)
        rows = []
        for number, (title, chunks) in enumerate(sounds.items()):
            name = f"{place:02}-{number}.flac"
            write_audio(folder / name, chunks, rate)
            text = "" if hear is None else hear(read_audio(folder / name, ASR_RATE)[0])
            rows.append((title, relative_url(name), text))
        sections.append(section(path.name, players_table(rows)))
    page = folder / "index.html"
    with atomic_write(page) as file:
        file.write(listening_page("Continuations of a speech language model", "", sections).encode())
    return page


def _samples(rows: Sequence[torch.Tensor]) -> np.ndarray:
    """The samples (T,) float32 of the only row of a stream."""
    return rows[0].float().cpu().numpy()
