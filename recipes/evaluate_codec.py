"""Measure a codec over folders of clips: quality and use of the ids, as Markdown tables.

python recipes/evaluate_codec.py --model l3ac-1k --json results.json eval/speech eval/music eval/general
"""

from __future__ import annotations

import argparse
import json
import sys

import torch

from l3ac_tokenizer import L3ACModel
from l3ac_tokenizer.atomic import atomic_write
from l3ac_tokenizer.evaluation.bench import as_json, evaluate_folder, markdown_tables


def main() -> None:
    """Parse the arguments, load the model once, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="DATA_FOLDER", help="audio files, one table row a folder")
    parser.add_argument("--model", default="l3ac-1k", metavar="NAME_OR_DIR", help="default: %(default)s")
    parser.add_argument("--time-norm", choices=["clip", "frozen"], default="clip", help="default: %(default)s")
    parser.add_argument("--json", metavar="FILE", help="write every number here")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU; default: %(default)s")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    try:
        model = L3ACModel.from_pretrained(options.model).to(options.device).eval()
        reports = [evaluate_folder(model, folder, options.time_norm) for folder in options.folders]
        if options.json:
            results = {
                "model": options.model,
                "weights_digest": model.weights_digest(),
                "time_norm": options.time_norm,
                "folders": as_json(reports),
            }
            with atomic_write(options.json) as file:
                file.write(json.dumps(results, indent=2).encode())
    except (OSError, ValueError) as error:
        sys.exit(f"evaluate_codec: {error}")
    print(markdown_tables(reports))


if __name__ == "__main__":
    main()
