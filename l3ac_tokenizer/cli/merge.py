"""`l3ac merge`: join the outputs of `l3ac tokenize --num-shards` into one corpus.

Verifies that the folders are all jobs of one corpus, each finished, and that no shard has changed.
"""

from __future__ import annotations

import argparse

from .report import needing_extra, show_facts, show_json
from .tokenize import add_format, texts, write_index


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac merge`."""
    parser.add_argument("parts", nargs="+", metavar="PART", help="output folder or URL of each job")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder or URL for the whole corpus")
    add_format(parser)


def run(options: argparse.Namespace) -> int:
    """Verify the parts and join them."""
    with needing_extra("data"):
        from ..tokenization.merge import merge_corpora
    summary = merge_corpora(options.parts, options.output)
    write_index(options)
    if options.json:
        show_json(summary)
    else:
        show_facts(texts(summary))
    return 0
