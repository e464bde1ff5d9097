"""What codecs are tested on: clips in data sets, from any corpus that `l3ac tokenize` reads.

A corpus is one data set, named after its folder or file; a manifest with a column `dataset` holds several. A data set
is `speech` or `audio`: the column `domain` says it, or `KIND=` before the corpus, or the name of the data set where it
is one of `AUDIO_NAMES`; speech otherwise. Columns `text`, `speaker`, `emotion` and `event` are for the metrics of
applications.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import AudioError, open_clip

DOMAINS = ("speech", "audio")
AUDIO_NAMES = frozenset(
    {"music", "general", "audio", "sound", "sounds", "environment", "noise", "audioset", "esc50", "esc-50", "esc10"}
    | {"fsd50k", "gunshot_triangulation", "mtg_jamendo", "musdb18"}
)
"""Data sets that are taken for other than speech by their names; those of Codec-SUPERB and of our recipes."""

LABELS = ("text", "speaker", "emotion", "event")


@dataclass(frozen=True)
class Clip:
    """One clip under test.

    Attributes:
        dataset: name of its data set.
        name: its name in it.
        domain: `"speech"` or `"audio"`.
        source: a path, the bytes of a file, or what else `l3ac_tokenizer.tokenization` reads.
        labels: those of `LABELS` that are known.
        error: why there is no audio, where the corpus itself is damaged.
    """

    dataset: str
    name: str
    domain: str
    source: Any = field(repr=False)
    labels: dict[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def key(self) -> str:
        """Data set and name: unique in a run."""
        return f"{self.dataset}/{self.name}"

    def read(self, sampling_rate: int) -> np.ndarray:
        """The clip (T,) float32 at this rate, the mean of its channels.

        Raises:
            AudioError: it is damaged, or holds nothing.
            OSError: it cannot be read.
        """
        if self.error is not None:
            raise AudioError(self.error)
        with open_clip(self.source, self.name, sampling_rate) as reader:
            return reader.read()


@dataclass(frozen=True)
class ClipSets:
    """Clips of one or more data sets, in order."""

    clips: Sequence[Clip]

    @cached_property
    def domains(self) -> dict[str, str]:
        """The data sets, and the domain of each."""
        return {clip.dataset: clip.domain for clip in self.clips}

    def spread(self, most: int) -> list[Clip]:
        """At most so many clips of each data set, evenly spread over it."""
        chosen: list[Clip] = []
        for dataset in self.domains:
            members = [clip for clip in self.clips if clip.dataset == dataset]
            places = np.linspace(0, len(members) - 1, min(most, len(members))).round().astype(int)
            chosen += [members[place] for place in places]
        return chosen


def open_data(corpora: Sequence[str], limit: int | None = None) -> ClipSets:
    """The clips of all corpora, each written `PATH`, or `speech=PATH` or `audio=PATH`.

    Args:
        corpora: folders, manifests, or what else `l3ac tokenize` takes.
        limit: at most so many clips a data set, evenly spread.

    Raises:
        ValueError: a corpus holds no audio, names an unknown domain, or two have a data set or clip in common.
        OSError: it cannot be read.
    """
    clips: list[Clip] = []
    for corpus in corpora:
        clips += _clips(corpus, {clip.dataset for clip in clips})
    keys: set[str] = set()
    domains: dict[str, str] = {}
    for clip in clips:
        if clip.key in keys:
            raise ValueError(f"there are two clips {clip.key}: rename one, or give one of them another data set.")
        if domains.setdefault(clip.dataset, clip.domain) != clip.domain:
            raise ValueError(f"the data set {clip.dataset} has clips of speech and of audio: split it in two.")
        keys.add(clip.key)
    data = ClipSets(clips)
    return data if limit is None else ClipSets(data.spread(limit))


def _clips(corpus: str, taken: set[str]) -> list[Clip]:
    from ..tokenization import open_source

    kind, _, path = corpus.rpartition("=") if corpus.partition("=")[0] in DOMAINS else ("", "", corpus)
    source = open_source(path)
    name = Path(os.path.abspath(path)).stem
    if name in taken:
        raise ValueError(f"two corpora are called {name}: rename one.")
    clips = []
    for record in source.records(0, len(source)):
        dataset = str(record.columns.get("dataset") or name)
        domain = str(record.columns.get("domain") or kind or _domain_of(dataset))
        if domain not in DOMAINS:
            raise ValueError(f"the clip {record.id} has the domain {domain!r}: write {' or '.join(DOMAINS)}.")
        labels = {label: str(record.columns[label]) for label in LABELS if record.columns.get(label)}
        clips.append(Clip(dataset, record.id, domain, record.audio, labels, record.error))
    return clips


def _domain_of(dataset: str) -> str:
    return "audio" if dataset.lower() in AUDIO_NAMES else "speech"
