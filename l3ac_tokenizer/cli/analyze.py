"""`l3ac analyze`: receptive fields and latency of a codec.

Measures look-ahead and look-back by gradients and by perturbation, and the resulting latency. --lengths adds the
quality of the same audio in clips of 1 to 60 s, --losses the sensitivity of training losses to samples and frequency
bins. Receptive fields do not depend on the weights: --random analyzes presets without bundled weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import atomic_write
from ..hub import DEFAULT_MODEL, model_name
from ..markup import markdown_text, printable, relative_url
from .loading import load_model
from .options import MODEL_HELP, add_outside
from .report import needing_extra, say, show_json

if TYPE_CHECKING:
    import numpy as np

    from ..modeling import CodecModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac analyze`."""
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"{MODEL_HELP} (default: {DEFAULT_MODEL}); several are compared"
    )
    parser.add_argument("--model", action="append", default=[], dest="more", metavar="MODEL", help="the same")
    parser.add_argument("--random", action="store_true", help="analyze presets with random weights")
    parser.add_argument("-o", "--output", metavar="FILE.md", help="write the tables to this page, with plots beside it")
    parser.add_argument(
        "--lengths",
        metavar="DATA",
        help="also measure quality by clip length, on a folder or manifest of recordings of at least 60 s",
    )
    parser.add_argument(
        "--losses",
        metavar="DATA",
        help="also measure the sensitivity of training losses, on a folder or manifest of clips",
    )
    add_outside(parser)


def run(options: argparse.Namespace) -> int:
    """Measure and print; exit status 1 if a look-ahead differs from the one that streaming states."""
    with needing_extra("eval"):
        import matplotlib  # noqa: F401
        import pesq  # noqa: F401
        import pystoi  # noqa: F401

    from ..analysis import clip_length, latency, loss_sensitivity
    from ..analysis.plots import draw_fields, draw_sensitivity

    outside, models = options.allow_outside, [*options.models, *options.more] or [DEFAULT_MODEL]
    analyses, sections, results = [], [], []
    plots: dict[str, bytes] = {}  # by title
    for name in models:
        say(f"analyzing {name}.")
        model = _model(name, options.random)
        rate = model.config.sampling_rate
        title = f"{name}, random weights" if options.random else model_name(name)
        analysis, fields = latency.analyze_latency(model, title)
        analyses.append(analysis)
        if len(analyses) == 1:
            plots[f"Receptive fields of {title}"] = draw_fields(analysis, fields)
        derived = {"algorithmic": analysis.algorithmic, "chunked": analysis.chunked}
        results.append({**dataclasses.asdict(analysis), **derived})
        if options.lengths is not None:
            by_length = clip_length.measure_clip_lengths(model, list(_recordings(options.lengths, rate, outside)))
            sections.append(clip_length.clip_length_section(by_length, title))
            results[-1]["lengths"] = [dataclasses.asdict(one) for one in by_length]
        if options.losses is not None:
            losses = loss_sensitivity.training_losses()
            found = loss_sensitivity.measure_sensitivity(model, _recordings(options.losses, rate, outside), losses)
            sections.append(loss_sensitivity.sensitivity_section(found, title))
            plots[f"Loss sensitivity, {title}"] = draw_sensitivity(found, rate)
            results[-1]["losses"] = [one.as_json() for one in found]
    text = "\n".join([latency.latency_page(analyses, _command(options)), *sections])
    if options.output is not None:
        _write_page(Path(options.output), text, plots)
    if options.json:
        show_json(results)
    else:
        print(printable(text, keep="\n"))
    return 0 if all(analysis.agrees for analysis in analyses) else 1


def _write_page(page: Path, text: str, plots: Mapping[str, bytes]) -> None:
    """Write the page with its plots at the end, named `page.png`, `page-2.png` and so on."""
    page.parent.mkdir(parents=True, exist_ok=True)
    for number, (title, plot) in enumerate(plots.items(), 1):
        image = page.with_name(f"{page.stem}{f'-{number}' if number > 1 else ''}.png")
        text += f"\n![{markdown_text(title)}]({relative_url(image.name)})\n"
        with atomic_write(image) as file:
            file.write(plot)
        say(f"written: {image}.")
    with atomic_write(page) as file:
        file.write(text.encode())
    say(f"written: {page}.")


def _command(options: argparse.Namespace) -> str:
    """The command as a page shows it, with the names of its data but not their folders."""
    command = ["l3ac", "analyze", *map(model_name, [*options.models, *options.more])]
    command += ["--random"] * options.random
    for name in ("lengths", "losses"):
        data = getattr(options, name)
        command += [] if data is None else [f"--{name}", os.path.basename(os.path.abspath(data))]
    return shlex.join(command)


def _model(name: str, random: bool) -> CodecModel:
    if not random:
        return load_model(name)
    import torch
    from transformers import AutoModel

    from ..families import preset_config

    torch.manual_seed(0)
    return AutoModel.from_config(preset_config(name))


def _recordings(data: str, sampling_rate: int, allow_outside: bool) -> Iterator[np.ndarray]:
    from ..evaluation.dataset import open_data

    recordings = open_data([data], allow_outside=allow_outside)
    for remark in recordings.remarks:
        say(remark)
    return (clip.read(sampling_rate) for clip in recordings.clips)
