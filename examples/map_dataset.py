"""The ids of an audio dataset as a new column, by `map` in four processes.

    python examples/map_dataset.py recordings/ with_ids/

A file that cannot be encoded has no ids and says why in the column `error`.
"""

import sys
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset

from l3ac_tokenizer import ClipEncoder, CodecEncoderModel


def main(source: str, target: str, name: str = "l3ac-1k-light") -> None:
    """Add the columns `ids` and `error` to the dataset of a folder, and save it."""
    encoder = ClipEncoder(CodecEncoderModel.from_pretrained(name))

    def add_ids(batch: dict[str, list[Any]], rank: int) -> dict[str, list[Any]]:
        clips = encoder(batch["audio"], rank=rank)
        return {"ids": [clip.ids for clip in clips], "error": [clip.error for clip in clips]}

    paths = sorted(str(path) for path in Path(source).glob("*.flac"))
    dataset = Dataset.from_dict({"audio": paths})
    dataset = dataset.cast_column("audio", Audio(decode=False))  # the encoder reads the files itself
    dataset = dataset.map(add_ids, batched=True, batch_size=16, num_proc=4, with_rank=True)
    dataset.save_to_disk(target)
    print(f"{len(dataset)} clips, {sum(map(len, dataset['ids']))} ids")


if __name__ == "__main__":
    main(*sys.argv[1:])
