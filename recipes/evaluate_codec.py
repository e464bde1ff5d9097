"""Measure codecs on folders of clips: `l3ac evaluate` as a recipe.

python recipes/evaluate_codec.py eval/speech eval/music -o results --codec l3ac-1k --codec opus@12 --codec original
"""

from __future__ import annotations

import sys

from l3ac_tokenizer.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
