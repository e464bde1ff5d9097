"""Start-up time: imports, and loading the bundled model, each in a fresh process.

python -m benchmarks.startup [--rounds 9]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from tqdm import trange

from benchmarks.codecs import PRESET
from benchmarks.report import add_output, machine, machine_line, record
from l3ac_tokenizer.evaluation.report.tables import table
from l3ac_tokenizer.markup import markdown_code

PROGRAMS = {
    "nothing": "",
    "import torch, transformers": "import torch, transformers",
    "import l3ac_tokenizer": "import l3ac_tokenizer",
    "from transformers import PreTrainedModel": "from transformers import PreTrainedModel",
    "from l3ac_tokenizer import L3ACModel": "from l3ac_tokenizer import L3ACModel",
    f'L3ACModel.from_pretrained("{PRESET}")': (
        f"from l3ac_tokenizer import L3ACModel; L3ACModel.from_pretrained({PRESET!r})"
    ),
    f'AutoModel.from_pretrained("{PRESET}")': (
        f"import l3ac_tokenizer; from transformers import AutoModel; AutoModel.from_pretrained({PRESET!r})"
    ),
}
"""Title in the table → program."""


def measure(rounds: int) -> dict[str, Any]:
    """Median run time of each program, over rounds of all programs after a warm-up round."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    times: dict[str, list[float]] = {title: [] for title in PROGRAMS}
    for turn in trange(rounds + 1, desc="fresh processes", unit="round"):
        for title, program in PROGRAMS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True)
            if turn:
                times[title].append(time.perf_counter() - start)
    return {
        "machine": machine(torch.get_num_threads()),
        "rounds": rounds,
        "seconds": {title: statistics.median(walls) for title, walls in times.items()},
    }


def markdown(result: dict[str, Any]) -> str:
    """The section of the page."""
    rows = [[markdown_code(title), f"{seconds:.2f} s"] for title, seconds in result["seconds"].items()]
    return (
        "## Start-up\n\n"
        f"Made by `python -m benchmarks.startup` on {machine_line(result['machine'])}\n\n"
        f"From start to exit of a fresh Python process, median of {result['rounds']}, files cached by the system.\n\n"
        f"{table([['program', 'time'], *rows])}\n"
    )


def main() -> None:
    """Parse the arguments, measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="default: %(default)d")
    add_output(parser)
    options = parser.parse_args()
    result = measure(options.rounds)
    record("startup", result, options.output)
    print(markdown(result))


if __name__ == "__main__":
    main()
