"""Where measurements are kept: one JSON file, and a Markdown page made from it.

Each benchmark replaces its own section, so that one can be run again without the others.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from l3ac_tokenizer.files import atomic_write

PAGE = Path("docs/reports/speed.md")
SECTIONS = ("speed", "streaming", "precision", "training_step", "training_run", "startup")
"""Modules of this folder, each with `markdown(result)`, in the order of the page."""

INTRODUCTION = Path(__file__).with_name("introduction.md")
NOTES = Path(__file__).with_name("notes.md")
"""What stands on every page before and after the sections: no figure that a benchmark makes."""


def add_output(parser: argparse.ArgumentParser) -> None:
    """The option that says which page to write."""
    parser.add_argument(
        "-o", "--output", type=Path, default=PAGE, help="Markdown page; JSON beside it (default: %(default)s)"
    )


def recorded(section: str, page: Path) -> dict[str, Any] | None:
    """A section's last result in the JSON file beside `page`; None without one."""
    store = page.with_suffix(".json")
    return json.loads(store.read_text()).get(section) if store.exists() else None


def record(section: str, result: dict[str, Any], page: Path) -> None:
    """Put a section's result in the JSON file beside `page`, and write `page` from all sections there.

    Raises:
        OSError: A file cannot be written.
    """
    store = page.with_suffix(".json")
    results = json.loads(store.read_text()) if store.exists() else {}
    results[section] = result
    parts = [
        importlib.import_module(f"benchmarks.{name}").markdown(results[name]) for name in SECTIONS if name in results
    ]
    text = "\n".join([INTRODUCTION.read_text(), *parts, NOTES.read_text()])
    for path, content in ((store, json.dumps(results, indent=1)), (page, text)):
        with atomic_write(path) as file:
            file.write((content.rstrip("\n") + "\n").encode())


def machine(threads: int) -> dict[str, Any]:
    """What a number depends on beside the code."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        "versions": {name: version(name) for name in ("torch", "transformers", "l3ac-tokenizer")},
    }


def machine_line(facts: dict[str, Any]) -> str:
    """The machine in one sentence."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    threads = f"{facts['threads']} thread{'s' if facts['threads'] > 1 else ''}"
    return f"{facts['cpu']} ({facts['capability']}), {threads}; {versions}."


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table, the first row its head, numbers to the right."""
    head, *body = rows
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] + ["---:"] * (len(head) - 1), *body])
