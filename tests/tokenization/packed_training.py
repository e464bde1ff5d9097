"""A training by `Trainer` that records what it reads; as a program one rank of it, `packed_training.py OPTIONS`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from transformers import Trainer, TrainingArguments

from l3ac_tokenizer import PackedCorpus


class Recorder(torch.nn.Module):
    """A model of one parameter that keeps its inputs."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(vocab_size))
        self.seen: list[list[int]] = []

    def forward(self, input_ids, labels, position_ids):
        self.seen += input_ids.tolist()
        return {"loss": self.weight[input_ids][labels != -100].sum()}


def trainer(corpus: PackedCorpus, folder: Path, **options) -> Trainer:
    arguments = TrainingArguments(
        str(folder), report_to="none", use_cpu=True, train_sampling_strategy="sequential", num_train_epochs=1, **options
    )
    return Trainer(Recorder(corpus.vocab_size), arguments, train_dataset=corpus)


def main(options: str) -> None:
    """Train, and write what this rank has seen."""
    given = json.loads(options)
    run = trainer(PackedCorpus(**given["corpus"]), given["output"], **given["training"])
    run.train()
    Path(given["output"], f"rank-{os.environ['RANK']}.json").write_text(json.dumps(run.model.seen))


if __name__ == "__main__":
    main(sys.argv[1])
