"""Storage of benchmark results: one JSON file, and the Markdown page generated from it.

Each benchmark replaces only its own section.
"""

from __future__ import annotations

import argparse
import importlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from l3ac_tokenizer.evaluation.timing import cpu_name
from l3ac_tokenizer.files import atomic_write

PAGE = Path("docs/reports/speed.md")
SECTIONS = ("speed", "streaming", "onnx_operators", "precision", "training_step", "training_run", "startup")
"""Modules of this folder with a function `markdown(result)`, in the order of the page."""

INTRODUCTION = Path(__file__).with_name("introduction.md")
NOTES = Path(__file__).with_name("notes.md")
"""Text of the page before and after the sections."""


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the option of the output page."""
    parser.add_argument(
        "-o", "--output", type=Path, default=PAGE, help="Markdown page, with JSON beside it (default: %(default)s)"
    )


def recorded(section: str, page: Path) -> dict[str, Any] | None:
    """Last result of a section in the JSON file beside `page`; None without one."""
    store = page.with_suffix(".json")
    return json.loads(store.read_text()).get(section) if store.exists() else None


def record(section: str, result: dict[str, Any], page: Path) -> None:
    """Store a section's result in the JSON file beside `page`, and write `page` from all stored sections.

    Raises:
        OSError: a file cannot be written.
    """
    store = page.with_suffix(".json")
    results = json.loads(store.read_text()) if store.exists() else {}
    results[section] = result
    _write(store, json.dumps(results, indent=1))  # first: what took hours is kept, whatever becomes of the page
    parts = [
        importlib.import_module(f"benchmarks.{name}").markdown(results[name]) for name in SECTIONS if name in results
    ]
    _write(page, "\n".join([INTRODUCTION.read_text(), *parts, NOTES.read_text()]))


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write((text.rstrip("\n") + "\n").encode())


def machine(threads: int) -> dict[str, Any]:
    """Processor, threads and package versions that results depend on."""
    return {
        "cpu": cpu_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        "versions": {name: version(name) for name in ("torch", "transformers", "l3ac-tokenizer")},
    }


def machine_line(facts: dict[str, Any]) -> str:
    """The machine in one sentence."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    threads = f"{facts['threads']} thread{'s' if facts['threads'] > 1 else ''}"
    return f"{facts['cpu']} ({facts['capability']}), {threads}; {versions}."
