"""`l3ac export-tokens`: write a tokenized corpus in the formats of training loops.

npy-index: all ids as one array to memory-map, which `PackedCorpus` reads; OUT is a folder, the corpus itself or
another. megatron: OUT.bin and OUT.idx, one document a clip. parquet: packed and shuffled sequences of --length tokens
in a new folder OUT, which `datasets` streams; the corpus must have its npy-index.
"""

from __future__ import annotations

import argparse

from .options import UsageError
from .report import needing_extra, say_unfinished, show_facts, show_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac export-tokens`."""
    parser.add_argument("corpus", metavar="CORPUS", help="output folder of `l3ac tokenize`")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="folder, or prefix of Megatron's files")
    parser.add_argument("--format", required=True, choices=("npy-index", "megatron", "parquet"))
    tokens = parser.add_argument_group("tokens, for megatron and parquet")
    tokens.add_argument("--audio-offset", type=int, metavar="TOKEN", help="of the id 0 (default: 0)")
    tokens.add_argument("--audio-start-id", type=int, metavar="TOKEN", help="before each document (default: none)")
    tokens.add_argument("--audio-end-id", type=int, metavar="TOKEN", help="after each document (default: none)")
    packing = parser.add_argument_group("packing, for parquet")
    packing.add_argument("--length", type=int, metavar="TOKENS", help="of a sequence")
    packing.add_argument("--seed", type=int, metavar="N", help="of the order (default: 0)")


def run(options: argparse.Namespace) -> int:
    """Write the corpus, and show the number of its documents or sequences and tokens."""
    tokens = _given(options, "audio_offset", "audio_start_id", "audio_end_id")
    layout = _given(options, "length", "seed")
    for option in {"npy-index": [*tokens, *layout], "megatron": [*layout], "parquet": []}[options.format]:
        raise UsageError(f"--{option.replace('_', '-')} has no effect with --format {options.format}: leave it out.")
    if options.format == "parquet" and options.length is None:
        raise UsageError("--format parquet needs --length.")
    with needing_extra("data"):
        from ..tokenization import megatron, npy_index, packed_parquet, packing

    say_unfinished(options.corpus)
    if options.format == "npy-index":
        npy_index.write_npy_index(options.corpus, options.output)
        index = npy_index.read_npy_index(options.output)
        facts = {"clips": len(index), "ids": len(index.ids)}
    elif options.format == "megatron":
        facts = megatron.write_megatron(options.corpus, options.output, **tokens)
    else:
        corpus = packing.PackedCorpus(options.corpus, **layout, **tokens)
        facts = packed_parquet.write_packed_parquet(corpus, options.output)
    if options.json:
        show_json(facts)
    else:
        show_facts({name.replace("_", " "): f"{value:,}" for name, value in facts.items()})
    return 0


def _given(options: argparse.Namespace, *names: str) -> dict[str, int]:
    """The options that the command line has."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}
