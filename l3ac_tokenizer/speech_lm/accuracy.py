"""Likelihood tests: how often a language model finds the positive clip of a pair likelier than the negative one.

Two conventions are reported side by side. *Per id*: the mean log-probability of a clip's ids is compared, which does
not favor short clips. It is what SALMon's repository uses for its baselines, and slamkit, of the same group as
StoryCloze's, for all four benchmarks (`mean_nll: true`). *Total*: the log-likelihood of the whole clip. ZeroSpeech 2021
leaves this to participants, whose pseudo-probabilities it compares as they are.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ..audio import AudioReader
from ..causes import failure
from ..container import Header, checked_ids, read_l3ac
from ..evaluation.statistics import mean_with_interval
from ..files import atomic_write
from ..id_files import SUFFIXES, read_ids, suffix_of
from ..id_metadata import IdMetadata
from ..inference import encode_audio
from ..markup import markdown_text, table_row
from ..modeling import CodecEncoding
from .likelihood import log_likelihoods
from .model import SpeechLM
from .pairs import Pair, PairList, write_csv

Ids = np.ndarray | str
"""Ids (N,) int64 of a clip, or why it has none."""

CONVENTIONS = ("per_id", "total")
"""Keys of the two ways to compare clips."""

CHUNK_SECONDS = 30.0
"""Seconds of audio in the codec at once."""

MOST_NAMED = 20
"""Clips named below a table."""


class ClipScore(NamedTuple):
    """A clip under the language model.

    Attributes:
        ids: number of ids.
        log_likelihood: sum over them, in nats.
    """

    ids: int
    log_likelihood: float

    def value(self, convention: str) -> float:
        """The score that is compared, by one of `CONVENTIONS`."""
        return self.log_likelihood / self.ids if convention == "per_id" else self.log_likelihood


class ScoredPair(NamedTuple):
    """A pair with its scores, or the reason why it has none.

    Attributes:
        pair: the pair.
        positive: score of its positive clip; None: a clip could not be read.
        negative: score of its negative clip; None: a clip could not be read.
        error: why a clip could not be read; None: both were.
    """

    pair: Pair
    positive: ClipScore | None
    negative: ClipScore | None
    error: str | None = None

    def correct(self, convention: str) -> float | None:
        """Return 1 if the positive clip is the likelier one, 1/2 for a tie, 0 otherwise; None without scores."""
        if self.positive is None or self.negative is None:
            return None
        positive, negative = self.positive.value(convention), self.negative.value(convention)
        return 0.5 if positive == negative else float(positive > negative)


def require_codec(model: SpeechLM, codec: CodecEncoding, name: str) -> None:
    """Refuse a codec whose ids the language model was not trained on.

    Raises:
        ModelMismatchError: The codec has other levels or other weights.
        ValueError: The language model does not say which weights made its training ids.
    """
    if not model.config.weights_digest:
        raise ValueError(
            "The language model does not say which codec made its training ids: train it with this version, or add the "
            "`weights_digest` in results.json to its config.json."
        )
    made_by = IdMetadata(model.config.weights_digest, tuple(model.config.levels))
    made_by.require(codec, name, "The language model was trained on ids of", "give the codec of its corpus")


def score_pairs(pairs: Sequence[Pair], codec: CodecEncoding, model: SpeechLM, batch_size: int = 8) -> list[ScoredPair]:
    """Score pairs of audio or id files, each file once.

    Args:
        pairs: Pairs to score.
        codec: Codec that the language model was trained on, see `require_codec`.
        model: Language model.
        batch_size: Windows in the language model at once.

    Returns:
        The scores in the order of the pairs; a pair with a clip that cannot be read says why.
    """
    paths = list(dict.fromkeys(path for pair in pairs for path in (pair.positive, pair.negative)))
    clips = _ids_of_files(paths, codec, model.config.level_lufs)
    # The same ids are scored once, so that rounding never decides between equal clips.
    distinct = {ids.tobytes(): ids for ids in clips.values() if isinstance(ids, np.ndarray)}
    sums = dict(zip(distinct, log_likelihoods(model, list(distinct.values()), batch_size), strict=True))
    scored = []
    for pair in pairs:
        scores = []
        for ids in (clips[pair.positive], clips[pair.negative]):
            if isinstance(ids, str):
                scored.append(ScoredPair(pair, None, None, ids))
                break
            scores.append(ClipScore(len(ids), float(sums[ids.tobytes()])))
        else:
            scored.append(ScoredPair(pair, scores[0], scores[1]))
    return scored


def _ids_of_files(
    paths: Sequence[Path], codec: CodecEncoding, level_lufs: float | None
) -> dict[Path, np.ndarray | str]:
    """The ids (N,) int64 of each file, or why it has none."""
    found: dict[Path, Ids] = {}
    audio = [path for path in paths if suffix_of(path) not in (".l3ac", *SUFFIXES)]
    openers = [partial(AudioReader, path, codec.config.sampling_rate) for path in audio]
    encoded = encode_audio(codec, openers, CHUNK_SECONDS, level_lufs=level_lufs)
    for position, clip in tqdm(encoded, total=len(audio), desc="encoding", unit="clip", disable=None):
        found[audio[position]] = clip.ids if clip.error is None else clip.error
    digests = codec.id_digests() if len(found) < len(paths) else []
    for path in (path for path in paths if path not in found):
        try:
            found[path] = _read_ids(path, codec, digests)
        except (OSError, ValueError) as error:
            found[path] = failure(error)
    return {
        path: f"{path} has no ids." if isinstance(ids, np.ndarray) and not len(ids) else ids
        for path, ids in found.items()
    }


def _read_ids(path: Path, codec: CodecEncoding, digests: Sequence[str]) -> np.ndarray:
    """The ids (N,) of a file; plain formats that do not name their codec are believed."""
    header: Header | None
    header, ids = read_l3ac(path) if suffix_of(path) == ".l3ac" else read_ids(path)
    if header is None:
        return checked_ids(ids, tuple(codec.config.frame_levels), str(path))
    made_by = IdMetadata(header.weights_digest, tuple(header.levels))
    made_by.require(codec, codec.name_or_path or "given", f"{path} holds ids of", "encode the clip again", digests)
    return ids


def accuracies(scored: Sequence[ScoredPair]) -> list[dict[str, Any]]:
    """Accuracy of each group, the lowest first, and of all pairs together at the end.

    The accuracy is the mean over items of the mean over their pairs, in [0, 1], with a 95 % bootstrap interval over
    items; ties count half.
    """
    groups: dict[str, list[ScoredPair]] = defaultdict(list)
    for pair in scored:
        groups[pair.pair.group].append(pair)
    rows = [_accuracy(name, members) for name, members in groups.items() if name]
    rows.sort(key=lambda row: (row["per_id"]["mean"] is not None, row["per_id"]["mean"]))
    return [*rows, _accuracy("all", scored)]


def _accuracy(name: str, scored: Sequence[ScoredPair]) -> dict[str, Any]:
    read = [pair for pair in scored if pair.error is None]
    row: dict[str, Any] = {"group": name, "pairs": len(read), "unreadable": len(scored) - len(read)}
    for convention in CONVENTIONS:
        items: dict[tuple[str, str], list[float]] = defaultdict(list)
        for pair in read:
            items[pair.pair.group, pair.pair.item].append(pair.correct(convention) or 0.0)
        row["items"] = len(items)
        row[convention] = asdict(mean_with_interval([float(np.mean(values)) for values in items.values()]))
        row[convention]["ties"] = sum(pair.correct(convention) == 0.5 for pair in read)
    return row


def markdown_table(results: dict[str, Any]) -> str:
    """Format results of `write_scores` as Markdown, with the clips that could not be read below the table."""
    lines = [
        "Accuracy in percent (95 % interval), chance is 50.",
        "",
        "| group | items | pairs | per id | total |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in results["accuracy"]:
        cells = [_percent(row[convention]) for convention in CONVENTIONS]
        lines.append(table_row([row["group"], str(row["items"]), str(row["pairs"]), *cells]))
    left_out = [*results["unreadable"], *results["unpaired"]]
    if left_out:
        lines += [
            "",
            f"Left out: {len(left_out)}.",
            "",
            *(f"- {markdown_text(reason)}" for reason in left_out[:MOST_NAMED]),
        ]
        if len(left_out) > MOST_NAMED:
            lines.append(f"- and {len(left_out) - MOST_NAMED} more, see results.json")
    return "\n".join(lines)


def _percent(mean: dict[str, Any]) -> str:
    if mean["mean"] is None:
        return "–"
    interval = "–".join(f"{100 * end:.1f}" for end in mean["interval"] or ())
    return f"{100 * mean['mean']:.1f}" + (f" ({interval})" if interval else "")


def write_scores(scored: Sequence[ScoredPair], pairs: PairList, facts: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write `pairs.csv`, `results.json` and `table.md` to a folder, and return the results.

    Args:
        scored: Result of `score_pairs`.
        pairs: Where the pairs came from.
        facts: What else the results state, such as the model.
        folder: Output folder, which is made.

    Raises:
        OSError: A file cannot be written.
    """
    results = {
        **facts,
        "accuracy": accuracies(scored),
        "unreadable": list(dict.fromkeys(pair.error for pair in scored if pair.error is not None)),
        "unpaired": pairs.unpaired,
    }
    folder.mkdir(parents=True, exist_ok=True)
    sides = ("positive", "negative")
    header = ["group", "item", *sides, *(f"{side}_{what}" for side in sides for what in ClipScore._fields)]
    header += [*(f"correct_{convention}" for convention in CONVENTIONS), "error"]
    write_csv(folder / "pairs.csv", header, map(_row, scored))
    contents = {
        "results.json": json.dumps(results, indent=2),
        "table.md": markdown_table(results) + "\n",
    }
    for name, content in contents.items():
        with atomic_write(folder / name) as file:
            file.write(content.encode())
    return results


def _row(scored: ScoredPair) -> list[object]:
    pair, no_score = scored.pair, (None,) * len(ClipScore._fields)
    numbers = [*(scored.positive or no_score), *(scored.negative or no_score)]
    numbers += [scored.correct(convention) for convention in CONVENTIONS]
    return [pair.group, pair.item, str(pair.positive), str(pair.negative), *numbers, scored.error or ""]
