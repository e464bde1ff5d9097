"""`l3ac analyze`: what a codec must wait for, and how it takes to long clips.

Receptive fields by gradients and by perturbation, the latencies that follow, with --lengths the quality of the same
audio in clips of 1 to 60 s, and with --losses which samples and bins of decoded audio training losses hear.
Reach does not depend on the weights: --random analyses presets that have none.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import atomic_write
from .loading import load_model, model_name
from .options import DEFAULT_MODEL
from .report import needing_extra, say, show_json

if TYPE_CHECKING:
    import numpy as np

    from ..modeling import CodecModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac analyze`."""
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"bundled names or model directories (default: {DEFAULT_MODEL})"
    )
    parser.add_argument("--random", action="store_true", help="take presets with random weights")
    parser.add_argument("-o", "--output", metavar="FILE.md", help="write the tables to a page, and a picture beside it")
    parser.add_argument(
        "--lengths",
        metavar="DATA",
        help="a folder or manifest with recordings of 60 s and more, cut into clips of 1 to 60 s and coded",
    )
    parser.add_argument(
        "--losses",
        metavar="DATA",
        help="a folder or manifest of clips: how evenly the gradient of each loss falls on samples and bins",
    )


def run(options: argparse.Namespace) -> int:
    """Measure and print; status 1 where a look-ahead is not the one that streaming states."""
    with needing_extra("eval"):
        import matplotlib  # noqa: F401
        import pesq  # noqa: F401
        import pystoi  # noqa: F401

    from ..evaluation import latency, lengths, sensitivity
    from ..evaluation.field_picture import draw_fields

    analyses, pages, facts = [], [], []
    pictures: dict[str, bytes] = {}  # by title
    for name in options.models or [DEFAULT_MODEL]:
        say(f"analysing {name}.")
        model = _model(name, options.random)
        title = f"{name}, random weights" if options.random else model_name(name)
        analysis, fields = latency.analyze(model, title)
        analyses.append(analysis)
        if not analyses[1:]:
            pictures[f"Receptive fields of {title}"] = draw_fields(analysis, fields)
        facts.append({**dataclasses.asdict(analysis), "algorithmic": analysis.algorithmic, "chunked": analysis.chunked})
        if options.lengths is not None:
            bins = lengths.by_length(model, list(_recordings(options.lengths, model.config.sampling_rate)))
            pages.append(lengths.markdown(bins, title))
            facts[-1]["lengths"] = [dataclasses.asdict(one) for one in bins]
        if options.losses is not None:
            found = sensitivity.measure(
                model, _recordings(options.losses, model.config.sampling_rate), sensitivity.training_losses()
            )
            pages.append(sensitivity.markdown(found, title))
            pictures[f"Where losses listen, {title}"] = sensitivity.draw(found, model.config.sampling_rate)
            facts[-1]["losses"] = [one.facts() for one in found]
    text = "\n".join([latency.markdown(analyses, _command(options)), *pages])
    if options.output is not None:
        _write_page(Path(options.output), text, pictures)
    if options.json:
        show_json(facts)
    else:
        print(text)
    return 0 if all(analysis.agrees for analysis in analyses) else 1


def _write_page(page: Path, text: str, pictures: Mapping[str, bytes]) -> None:
    """The page with its pictures at the end, `page.png` and, from the second on, `page-2.png`."""
    page.parent.mkdir(parents=True, exist_ok=True)
    for number, (title, picture) in enumerate(pictures.items(), 1):
        image = page.with_name(f"{page.stem}{f'-{number}' if number > 1 else ''}.png")
        text += f"\n![{title}]({image.name})\n"
        with atomic_write(image) as file:
            file.write(picture)
        say(f"written: {image}.")
    with atomic_write(page) as file:
        file.write(text.encode())
    say(f"written: {page}.")


def _command(options: argparse.Namespace) -> str:
    """The command as a page shows it: what it ran on, without where that lies."""
    command = ["l3ac", "analyze", *map(model_name, options.models)]
    command += ["--random"] * options.random
    for name in ("lengths", "losses"):
        data = getattr(options, name)
        command += [] if data is None else [f"--{name}", model_name(data)]
    return shlex.join(command)


def _model(name: str, random: bool) -> CodecModel:
    if not random:
        return load_model(name)
    import torch
    from transformers import AutoModel

    from ..families import preset_config

    torch.manual_seed(0)
    return AutoModel.from_config(preset_config(name))


def _recordings(data: str, sampling_rate: int) -> Iterator[np.ndarray]:
    from ..evaluation.data import open_data

    return (clip.read(sampling_rate) for clip in open_data([data]).clips)
