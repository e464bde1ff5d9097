"""Clips continued by a `SpeechLM`: ids decoded to sound while they are drawn, and a page to listen to them.

Axes: T samples, N ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path

import numpy as np
import torch

from ..asr import ASR_RATE, Recognizer, normalized_words, word_errors
from ..audio import read_audio, write_audio
from ..files import atomic_write
from ..inference import encode_clips
from ..listening_page import facts_table, listening_page, players_table, section
from ..loudness import leveled
from ..markup import relative_url
from ..modeling import CodecModel
from ..streaming import StreamingDecoder
from .model import SpeechLM

IdRecognizer = Callable[[torch.Tensor], str]
"""Words in ids (N,), such as `TokenRecognizer.recognize_ids`."""


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


def continued_ids(model: SpeechLM, ids: np.ndarray, sampling: Sampling, number: int = 0) -> Iterator[torch.Tensor]:
    """Ids (N,), then those that continue them, in pieces (1, n) on the CPU, each as soon as it is drawn.

    Nothing is kept but the cache of the language model, which its context bounds.

    Args:
        model: The language model.
        ids: The beginning.
        sampling: How it is continued.
        number: Which continuation; each has a seed of its own.
    """
    given = torch.from_numpy(np.asarray(ids, dtype=np.int64))[None]
    yield given
    seed = sampling.seed + number
    for drawn in model.draw_ids(given.to(model.device), sampling.count, sampling.temperature, sampling.top_p, seed):
        yield drawn.cpu()


def stream_sound(codec: CodecModel, pieces: Iterable[torch.Tensor]) -> Iterator[np.ndarray]:
    """Sound of ids in pieces (1, n), in chunks (T,) float32, each as soon as its ids are there.

    Together the chunks are `codec.decode` of all ids with `time_norm="frozen"`. Nothing is kept but the state of the
    decoder.

    Raises:
        ValueError: The codec has no statistics for frozen time normalization.
    """
    decoder = StreamingDecoder(codec)
    for ids in pieces:
        yield _samples(decoder.push(ids))
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
    read: IdRecognizer | None = None,
) -> Path:
    """Continue clips, and write `index.html` and its audio into a folder; returns the path of the page.

    For each clip the page has the original, its beginning through the codec alone, and the continuations, which start
    with that beginning. With both recognizers it states how many words differ between them, too.

    Args:
        prompts: Audio files.
        model: The language model, in evaluation mode.
        codec: Its codec, in evaluation mode.
        sampling: How clips are continued.
        continuations: Number of continuations of each clip.
        facts: Names and values in a table above the clips.
        hear: Recognizer of sound, whose text stands beside each player; None: no text.
        folder: Output folder, which is created.
        read: Recognizer of ids, whose text stands beside every sound that is made of ids; None: no text.

    Raises:
        AudioError: A clip cannot be read.
        OSError: A file cannot be read or written.
        ValueError: The codec has no statistics for frozen time normalization.
    """
    rate, hop = codec.config.sampling_rate, codec.config.hop_length
    folder.mkdir(parents=True, exist_ok=True)
    sections: list[str] = []
    heard: dict[str, list[list[str]]] = {"beginnings": [], "continuations": []}
    for place, path in enumerate(prompts, start=1):
        wave, _ = leveled(read_audio(path, rate)[0], rate, model.config.level_lufs)
        ids = encode_clips(codec, [wave[: sampling.prompt * hop]])[0]
        original = f"{place:02}-0.flac"
        write_audio(folder / original, wave[: (sampling.prompt + sampling.count) * hop], rate)
        rows = [("original", relative_url(original), _texts(hear, folder / original) + [""] * (read is not None))]
        sounds = {"beginning, through the codec": continued_ids(model, ids, replace(sampling, count=0))}
        for number in range(continuations):
            sounds[f"continuation {number + 1}"] = continued_ids(model, ids, sampling, number)
        for number, (title, pieces) in enumerate(sounds.items(), start=1):
            name = f"{place:02}-{number}.flac"
            pieces, drawn = tee(pieces)
            write_audio(folder / name, stream_sound(codec, pieces), rate)
            texts = _texts(hear, folder / name)
            if read is not None:
                texts.append(read(torch.cat(list(drawn), dim=1)[0]))
            rows.append((title, relative_url(name), texts))
            heard["beginnings" if number == 1 else "continuations"].append(texts)
        sections.append(section(path.name, players_table(rows)))
    if hear is not None and read is not None:
        facts = {**facts, **{f"words that differ, {kind}": _difference(texts) for kind, texts in heard.items()}}
    page = folder / "index.html"
    with atomic_write(page) as file:
        sections.insert(0, section("Settings", facts_table(facts)))
        file.write(listening_page("Continuations of a speech language model", "", sections).encode())
    return page


def _texts(hear: Recognizer | None, path: Path) -> list[str]:
    return [] if hear is None else [hear(read_audio(path, ASR_RATE)[0])]


def _difference(texts: Sequence[Sequence[str]]) -> str:
    """Word errors of the second text of each sound, where the first one is the reference."""
    counts = [word_errors(*map(normalized_words, pair)) for pair in texts]
    errors, words = (sum(column) for column in zip(*counts, strict=True)) if counts else (0.0, 0.0)
    return f"{100 * errors / words:.1f} % of {words:.0f}" if words else f"{errors:.0f}; none was heard"


def _samples(rows: Sequence[torch.Tensor]) -> np.ndarray:
    """The samples (T,) float32 of the only row of a stream."""
    return rows[0].float().cpu().numpy()
