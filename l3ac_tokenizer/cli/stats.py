"""`l3ac stats`: show the codebook usage of a tokenized corpus.

Rates, entropies of ids, digits and groups of digits, and the bit rates of memoryless codes.
"""

from __future__ import annotations

import argparse
import io
from typing import TYPE_CHECKING, Any

from ..storage import write_whole
from ..urls import is_url
from .paths import make_folder_of
from .report import needing_extra, say_unfinished, show_facts, show_json, show_table

if TYPE_CHECKING:
    import numpy as np


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac stats`."""
    parser.add_argument(
        "corpus", metavar="CORPUS", help="output folder or URL of `l3ac tokenize`, or one of its .parquet files"
    )
    parser.add_argument("--picture", metavar="FILE.png", help="plot the usage of ids and digits")


def run(options: argparse.Namespace) -> int:
    """Count the ids and show their statistics."""
    with needing_extra("data"):
        from ..tokenization.reader import TokenizedCorpus
        from ..tokenization.statistics import corpus_statistics, count_ids

    corpus = TokenizedCorpus(options.corpus)
    say_unfinished(options.corpus)
    counts = count_ids(corpus)
    statistics = corpus_statistics(corpus, counts)
    if options.picture:
        with needing_extra("eval"):
            _draw(options.picture, counts.ids, statistics)
    if options.json:
        show_json(statistics)
    else:
        _show(statistics)
    return 0


def _show(statistics: dict[str, Any]) -> None:
    ids, bits = statistics["ids"], statistics["bits_per_second"]
    show_facts(
        {
            "model": statistics["model"],
            "weights digest": statistics["weights_digest"],
            "clips": f"{statistics['clips']:,} ({statistics['hours']:.2f} h)",
            "ids": f"{ids['count']:,} ({statistics['ids_per_second']:.2f} ids/s)",
            "ids in use": f"{ids['used']:,} of {ids['size']:,} ({ids['used'] / ids['size']:.1%})",
            "bit rate, fixed length": f"{bits['fixed']:.1f} bits/s",
            "Huffman code": f"{bits['huffman']:.1f} bits/s, without its table",
            "empirical entropy": f"{bits['entropy']:.1f} bits/s",
            "  Miller–Madow": f"{bits['entropy_miller_madow']:.1f} bits/s",
            "most used ids": _ids(statistics["most_used"]),
            "least used ids": _ids(statistics["least_used"]),
        }
    )
    print()
    usages = [("ids", ids)]
    usages += [(f"digit {number}", use) for number, use in enumerate(statistics["levels"])]
    for groups, uses in statistics["splits"].items():
        usages += [(f"group {number} of {groups}", use) for number, use in enumerate(uses)]
    rows = [
        (
            name,
            f"{use['used']:,} of {use['size']:,}",
            f"{use['entropy']:.3f}",
            f"{use['entropy_miller_madow']:.3f}",
            f"{use['normalized_entropy']:.3f}",
            f"{use['normalized_entropy_miller_madow']:.3f}",
        )
        for name, use in usages
    ]
    show_table(rows, ("", "used", "entropy, bits", "Miller–Madow", "normalized", "Miller–Madow"))
    print(f"\nPlain entropies are biased low: those of {ids['count']:,} ids are at most the log2 of their number.")


def _ids(listed: list[dict[str, Any]]) -> str:
    return ", ".join(f"{each['id']} ({each['count']:,})" for each in listed[:5])


def _draw(path: str, counts: np.ndarray, statistics: dict[str, Any]) -> None:
    """Plot the shares of the ids by rank, and of the levels of each digit, as a PNG."""
    import numpy as np
    from matplotlib.figure import Figure

    from ..quantization import radices

    used = np.sort(counts[counts > 0])[::-1] / counts.sum()
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    ranks, digits = figure.subplots(1, 2)
    ranks.loglog(np.arange(1, len(used) + 1), used, label="ids in use")
    ranks.axhline(1 / len(counts), color="gray", linestyle=":", label="uniform")
    ranks.set(
        xlabel="rank",
        ylabel="share",
        title=f"{len(used):,} of {len(counts):,} ids in use, {counts.sum():,} occurrences",
    )
    ranks.legend()
    sizes = [use["size"] for use in statistics["levels"]]
    width = 0.8 / max(sizes)
    for number, (step, size) in enumerate(zip(radices(sizes), sizes, strict=True)):
        shares = np.bincount(np.arange(len(counts)) // step % size, weights=counts) / counts.sum()
        digits.bar(number + (np.arange(size) - (size - 1) / 2) * width, shares, 0.9 * width, color=f"C{number}")
    digits.set(xlabel="digit", ylabel="share of its levels", title="levels of each digit", xticks=range(len(sizes)))
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    if not is_url(path):
        make_folder_of(path)
    write_whole(path, picture.getvalue())
