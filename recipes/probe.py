"""Probe ids for what they keep of a clip: train a small classifier of them, and measure it on held-out clips.

    l3ac tokenize MANIFEST.csv -o CORPUS        # with columns such as label and recordist
    python recipes/probe.py CORPUS --label label --group recordist -o RESULTS
    python recipes/probe.py CORPUS --label speaker --group path --folds 2 -o RESULTS

It needs the extras `data` and `speechbrain`, and writes `results.json` to `RESULTS`. The classifiers are those of DASB
(https://arxiv.org/abs/2406.14294): embedded ids, then the mean over time and a linear layer (`linear`), or ECAPA-TDNN
(https://arxiv.org/abs/2005.07143, `ecapa`, with 128 channels where DASB has 1,024). Ids are embedded by the layers of
this package, not by a row for each of them.

Every clip is measured once, by a classifier of other folds, and no group is in two folds. Nothing is chosen by the
measured clips: the number of epochs is fixed. The interval of the accuracy is over groups.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.nnet.pooling import StatisticsPooling
from torch import Tensor, nn

from l3ac_tokenizer import FSQEmbedding
from l3ac_tokenizer.evaluation.statistics import pooled_mean
from l3ac_tokenizer.files import atomic_write
from l3ac_tokenizer.language_model import EMBEDDING_MODES
from l3ac_tokenizer.markup import printable
from l3ac_tokenizer.tokenization.reader import TokenizedCorpus

CHANNELS = 128
CHUNK_SECONDS = 3.0
BATCH = 16
LEARNING_RATE = 1e-3
LEAST_IDS = 8
"""Ids of the shortest clip, which the kernels of ECAPA-TDNN need."""


class Probe(nn.Module):
    """Classifier of clips of ids.

    Args:
        levels: Levels of each FSQ dimension.
        labels: Number of labels L.
        head: `"linear"` or `"ecapa"`.
        embedding: Mode of `FSQEmbedding`.
    """

    def __init__(self, levels: Sequence[int], labels: int, head: str, embedding: str):
        super().__init__()
        self.embedding = FSQEmbedding(levels, CHANNELS, embedding)
        self.encoder: nn.Module
        if head == "linear":
            self.encoder, width = StatisticsPooling(return_std=False), CHANNELS
        else:
            channels, width = [CHANNELS] * 4 + [3 * CHANNELS], 192
            self.encoder = ECAPA_TDNN(CHANNELS, channels=channels, attention_channels=64, lin_neurons=width)
        self.classifier = nn.Linear(width, labels)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (B, N) of clips of one length → logits (B, L)."""
        return self.classifier(self.encoder(self.embedding(ids))[:, 0])


def read_clips(corpus: TokenizedCorpus, label: str, group: str) -> tuple[list[np.ndarray], list[str], list[str]]:
    """Ids (N,), label and group of each clip that has both, and at least `LEAST_IDS` ids.

    Raises:
        ValueError: The corpus has no such column.
    """
    clips, labels, groups = [], [], []
    for table in corpus.tables():
        for name in (label, group):
            if name not in table.column_names:
                raise ValueError(f"The corpus has no column {name!r}; it has {', '.join(table.column_names)}.")
        rows = zip(corpus.whole_ids(table), table[label].to_pylist(), table[group].to_pylist(), strict=True)
        for ids, of_label, of_group in rows:
            if len(ids) >= LEAST_IDS and None not in (of_label, of_group):
                clips.append(ids)
                labels.append(str(of_label))
                groups.append(str(of_group))
    return clips, labels, groups


def assign_folds(labels: Sequence[str], groups: Sequence[str], folds: int) -> np.ndarray:
    """Fold (C,) of each clip: the groups of each label are dealt out in turn, in an order given by their hash."""

    def place(group: str) -> bytes:
        return hashlib.sha256(group.encode()).digest()

    members: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        members[label].add(group)
    fold_of: dict[str, int] = {}
    for label in sorted(members, key=lambda label: (len(members[label]), label)):
        taken = Counter(fold_of[group] for group in members[label] if group in fold_of)
        for group in sorted(members[label] - fold_of.keys(), key=place):
            fold_of[group] = min(range(folds), key=lambda fold: (taken[fold], fold))
            taken[fold_of[group]] += 1
    return np.array([fold_of[group] for group in groups])


def train_probe(probe: Probe, clips: Sequence[np.ndarray], targets: np.ndarray, chunk: int, epochs: int) -> None:
    """Train on random chunks of at most `chunk` ids; those of a batch have the length of its shortest clip."""
    random = np.random.default_rng(0)
    steps = epochs * -(-len(clips) // BATCH)
    optimizer = torch.optim.Adam(probe.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    probe.train()
    for _ in range(epochs):
        for batch in np.array_split(random.permutation(len(clips)), steps // epochs):
            length = min(chunk, *(len(clips[row]) for row in batch))
            starts = [random.integers(len(clips[row]) - length + 1) for row in batch]
            ids = np.stack([clips[row][first : first + length] for row, first in zip(batch, starts, strict=True)])
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(probe(torch.from_numpy(ids)), torch.from_numpy(targets[batch]))
            loss.backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def predict(probe: Probe, clips: Sequence[np.ndarray]) -> np.ndarray:
    """Label (C,) of each whole clip."""
    probe.eval()
    return np.array([int(probe(torch.from_numpy(clip)[None]).argmax()) for clip in clips])


def measure(corpus: TokenizedCorpus, options: argparse.Namespace) -> dict[str, Any]:
    """Train a probe for each fold, and return the accuracy over all clips.

    Raises:
        ValueError: A column is missing, or there are fewer than two labels or fewer groups than folds.
    """
    clips, names, groups = read_clips(corpus, options.label, options.group)
    kinds = sorted(set(names))
    if len(kinds) < 2 or options.folds < 2 or len(set(groups)) < options.folds:
        raise ValueError(
            f"{len(kinds)} labels and {len(set(groups))} groups in {options.folds} folds: at least two labels and two "
            "folds are needed, and a group for each fold."
        )
    targets = np.array([kinds.index(name) for name in names])
    folds = assign_folds(names, groups, options.folds)
    chunk = round(CHUNK_SECONDS * corpus.metadata.sampling_rate / corpus.metadata.hop_length)
    correct = np.zeros(len(clips), dtype=bool)
    for fold in range(options.folds):
        torch.manual_seed(0)
        probe = Probe(corpus.metadata.levels, len(kinds), options.head, options.embedding)
        inside = [clip for clip, of in zip(clips, folds, strict=True) if of != fold]
        train_probe(probe, inside, targets[folds != fold], chunk, options.epochs)
        outside = [clip for clip, of in zip(clips, folds, strict=True) if of == fold]
        correct[folds == fold] = predict(probe, outside) == targets[folds == fold]
    by_group: dict[str, list[bool]] = defaultdict(list)
    for group, right in zip(groups, correct, strict=True):
        by_group[group].append(bool(right))
    accuracy = pooled_mean([(sum(rights), len(rights)) for rights in by_group.values()])
    return {
        "accuracy": asdict(accuracy),
        "most_frequent_label": max(Counter(names).values()) / len(names),
        "clips": len(clips),
        "left_out": sum(table.num_rows for table in corpus.tables()) - len(clips),
        "labels": len(kinds),
        "groups": len(by_group),
        "accuracy_of_label": {kind: float(correct[targets == number].mean()) for number, kind in enumerate(kinds)},
        "parameters": sum(parameter.numel() for parameter in probe.parameters()),
        "codec": {"model": corpus.metadata.model, "weights_digest": corpus.metadata.weights_digest},
        "options": {name: value for name, value in vars(options).items() if name != "output"},
    }


def main() -> None:
    """Parse the arguments and run the probe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", metavar="CORPUS", help="output folder of `l3ac tokenize`")
    parser.add_argument("--label", required=True, metavar="COLUMN", help="column to predict")
    parser.add_argument(
        "--group", default="path", metavar="COLUMN", help="column whose clips stay together (default: %(default)s)"
    )
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder for results.json")
    parser.add_argument("--head", choices=("linear", "ecapa"), default="ecapa", help="default: %(default)s")
    parser.add_argument("--embedding", choices=EMBEDDING_MODES, default="digits", help="default: %(default)s")
    parser.add_argument("--folds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=30, help="default: %(default)s")
    options = parser.parse_args()
    try:
        results = measure(TokenizedCorpus(options.corpus), options)
        Path(options.output).mkdir(parents=True, exist_ok=True)
        with atomic_write(Path(options.output) / "results.json") as file:
            file.write(json.dumps(results, indent=2).encode())
    except (OSError, ValueError) as error:
        sys.exit(printable(f"probe: {error}"))
    (low, high), left_out = results["accuracy"]["interval"], results["left_out"]
    print(
        f"accuracy {results['accuracy']['mean']:.1%} ({low:.1%}–{high:.1%}) of {results['labels']} labels, "
        f"{results['most_frequent_label']:.1%} by the most frequent one; {results['clips']} clips, "
        f"{results['groups']} groups"
        + (f"; {left_out} clips without label or group, or too short, are left out" if left_out else "")
    )


if __name__ == "__main__":
    main()
