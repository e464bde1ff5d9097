"""`l3ac analyze`: what a codec must wait for, and how it takes to long clips.

Receptive fields by gradients and by perturbation, the latencies that follow, and with --lengths the quality of the same
audio in clips of 1 to 60 s. Reach does not depend on the weights: --random analyses presets that have none.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import atomic_write
from .loading import load_model, model_name
from .options import DEFAULT_MODEL
from .report import needing_extra, say, show_json

if TYPE_CHECKING:
    import numpy as np

    from ..modeling import L3ACModel


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


def run(options: argparse.Namespace) -> int:
    """Measure and print; status 1 where a look-ahead is not the one that streaming states."""
    with needing_extra("eval"):
        import matplotlib  # noqa: F401
        import pesq  # noqa: F401
        import pystoi  # noqa: F401

    from ..evaluation import latency, lengths
    from ..evaluation.field_picture import draw_fields

    analyses, pages, pictures, facts = [], [], {}, []
    for name in options.models or [DEFAULT_MODEL]:
        say(f"analysing {name}.")
        model = _model(name, options.random)
        title = f"{name}, random weights" if options.random else model_name(name)
        analysis, fields = latency.analyze(model, title)
        analyses.append(analysis)
        pictures[model_name(name)] = draw_fields(analysis, fields)
        facts.append({**dataclasses.asdict(analysis), "algorithmic": analysis.algorithmic, "chunked": analysis.chunked})
        if options.lengths is not None:
            bins = lengths.by_length(model, _recordings(options.lengths, model.config.sampling_rate))
            pages.append(lengths.markdown(bins, title))
            facts[-1]["lengths"] = [dataclasses.asdict(one) for one in bins]
    text = latency.markdown(analyses, _command(options))
    if options.output is not None:
        page = Path(options.output)
        page.parent.mkdir(parents=True, exist_ok=True)
        first, picture = next(iter(pictures.items()))
        image = page.with_suffix(".png")
        text += f"\n![Receptive fields of {first}]({image.name})\n"
        with atomic_write(image) as file:
            file.write(picture)
    text = "\n".join([text, *pages])
    if options.output is not None:
        with atomic_write(page) as file:
            file.write(text.encode())
        say(f"written: {page}, {image}.")
    if options.json:
        show_json(facts)
    else:
        print(text)
    return 0 if all(analysis.agrees for analysis in analyses) else 1


def _command(options: argparse.Namespace) -> str:
    """The command as a page shows it: what it ran on, without where that lies."""
    command = ["l3ac", "analyze", *map(model_name, options.models)]
    command += ["--random"] * options.random
    command += [] if options.lengths is None else ["--lengths", model_name(options.lengths)]
    return shlex.join(command)


def _model(name: str, random: bool) -> L3ACModel:
    from ..modeling import L3ACModel

    if random:
        import torch

        from ..configuration import L3ACConfig

        torch.manual_seed(0)
        return L3ACModel(L3ACConfig.from_preset(name))
    model = load_model(name)
    if not isinstance(model, L3ACModel):
        raise ValueError(f"{name} is a {type(model).__name__}; receptive fields are measured of L3AC's network only.")
    return model


def _recordings(data: str, sampling_rate: int) -> list[np.ndarray]:
    from ..evaluation.data import open_data

    return [clip.read(sampling_rate) for clip in open_data([data]).clips]
