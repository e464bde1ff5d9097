"""Tokenize a corpus: the work of `l3ac tokenize` in a few calls of the library.

    python recipes/tokenize_corpus.py CORPUS -o OUT

CORPUS is a folder of audio, a manifest, Parquet, WebDataset shards or the name of a hub dataset. The same command
resumes an interrupted run. `docs/guides/tokenizing.md` compares the engines.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys

from l3ac_tokenizer import CodecEncoderModel
from l3ac_tokenizer.markup import printable
from l3ac_tokenizer.tokenization import open_source, tokenize_corpus
from l3ac_tokenizer.tokenization.engines import LocalEngine
from l3ac_tokenizer.tokenization.spec import TokenizationOptions


def main() -> None:
    """Open the corpus, load the model, encode, and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", metavar="CORPUS")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="folder for the shards")
    parser.add_argument("--model", default="l3ac-1k-light", metavar="NAME_OR_DIR", help="default: %(default)s")
    parser.add_argument("--num-proc", type=int, default=1, help="worker processes; default: %(default)s")
    parser.add_argument("--allow-outside", action="store_true", help="follow paths and links that lead out of CORPUS")
    options = parser.parse_args()

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        summary = tokenize_corpus(
            open_source(options.corpus, allow_outside=options.allow_outside),
            CodecEncoderModel.from_pretrained(options.model).eval(),
            options.output,
            TokenizationOptions(shard_rows=1000),
            engine=LocalEngine(options.num_proc),
        )
    except (OSError, ValueError) as error:
        sys.exit(printable(f"tokenize_corpus: {error}"))
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":  # workers are started anew and import this file
    main()
