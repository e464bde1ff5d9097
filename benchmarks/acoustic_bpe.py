"""Compression of ids by acoustic BPE, on clips that it was not trained on.

    python -m benchmarks.acoustic_bpe CORPUS [--merges 1000 5000]

CORPUS is a folder that `l3ac tokenize` wrote. Every tenth clip is held out; the speakers of held-out clips may also be
in the training clips. Prints a Markdown table for the ids, for each of the groups of `split_ids`, and for two groups
interleaved in one sequence. Bits per id are those of a uniform model over the tokens, an upper bound for any model.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from l3ac_tokenizer import AcousticBPE, split_ids
from l3ac_tokenizer.quantization import split_sizes
from l3ac_tokenizer.tokenization.reader import TokenizedCorpus

View = Callable[[np.ndarray], np.ndarray]
"""Ids (N,) → sequence of symbols to merge."""


def views(levels: tuple[int, ...]) -> Iterator[tuple[str, int, View]]:
    """Name, number of symbols, and view of each kind of sequence."""
    yield "ids", math.prod(levels), lambda ids: ids
    for groups in (2, 3, len(levels)):
        for group, size in enumerate(split_sizes(levels, groups)):
            name = f"group {group} of {groups}"
            yield name, size, functools.partial(_group, levels, groups, group)
    first, second = split_sizes(levels, 2)
    offsets = np.array([0, first])
    yield "2 groups interleaved", first + second, lambda ids: (split_ids(ids, levels, 2) + offsets).reshape(-1)


def _group(levels: tuple[int, ...], groups: int, group: int, ids: np.ndarray) -> np.ndarray:
    return split_ids(ids, levels, groups)[:, group]


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, metavar="CORPUS", help="tokenized corpus")
    parser.add_argument(
        "--merges", type=int, nargs="+", default=[1000, 5000], help="numbers of merges (default: 1000 5000)"
    )
    options = parser.parse_args()
    corpus = TokenizedCorpus(options.corpus)
    clips = [ids for table in corpus.tables(["ids"]) for ids in corpus.whole_ids(table)]
    held_out, trained = clips[::10], [clip for index, clip in enumerate(clips) if index % 10]
    print(f"{sum(map(len, trained))} ids of {len(trained)} clips to train on, {sum(map(len, held_out))} held out\n")
    print("| sequence | symbols | merges | symbols per token, training | held out | bits per id, symbols | tokens |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, size, view in views(corpus.metadata.levels):
        for merges in options.merges:
            bpe = AcousticBPE.train(map(view, trained), size, merges)
            symbols = [view(clip) for clip in held_out]
            assert all(np.array_equal(bpe.decode(bpe.encode(each)), each) for each in symbols)
            compression = bpe.compression(symbols)
            an_id = sum(map(len, symbols)) / sum(map(len, held_out))
            before, after = an_id * math.log2(size), an_id * math.log2(bpe.vocab_size) / compression
            print(
                f"| {name} | {size} | {bpe.vocab_size - size} | {bpe.compression(map(view, trained)):.3f} "
                f"| {compression:.3f} | {before:.2f} | {after:.2f} |"
            )


if __name__ == "__main__":
    main()
