"""`l3ac detokenize`: decode a tokenized corpus to audio files.

Each clip becomes a file in the output folder, named after its id. It is decoded by the model that the corpus names, or
by --model, and only if that model made the ids.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..names import is_within
from .decode import Decoding, EncodedFile, add_time_norm, check_same_model
from .options import add_compute, add_model
from .paths import FileJob
from .report import needing_extra, progress, say, show_facts, show_json

if TYPE_CHECKING:
    from ..container import Header
    from ..tokenization.reader import TokenizedCorpus
    from ..tokenization.spec import CorpusMetadata


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac detokenize`."""
    parser.add_argument(
        "corpus", metavar="CORPUS", help="output folder of `l3ac tokenize`, or one of its .parquet files"
    )
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder for the audio files")
    add_model(parser, None, "the bundled model that the corpus names")
    parser.add_argument(
        "--audio-format", choices=("wav", "flac"), default="wav", help="16 bit each (default: %(default)s)"
    )
    add_time_norm(parser)
    add_compute(parser)


def run(options: argparse.Namespace) -> int:
    """Decode every clip; one that cannot be decoded is reported, and the others continue."""
    with needing_extra("data"):
        from ..tokenization.reader import TokenizedCorpus
    corpus = TokenizedCorpus(options.corpus)
    decoding = Decoding(options)
    model = decoding.load(options.model or corpus.metadata.model, options.corpus)
    check_same_model(options.corpus, _header(corpus.metadata, 1), model, model.id_digests())
    seconds = sum(sum(filter(None, table["num_samples"].to_pylist())) for table in corpus.tables(["num_samples"]))
    with progress(seconds / corpus.metadata.sampling_rate, "decoding") as bar:
        for batch in _batches(corpus, decoding, options):
            decoding.decode(model, batch, bar)
    clips, failed = len(decoding.results), decoding.failures.reasons
    hours = sum(result["seconds"] for result in decoding.results.values()) / 3600
    if options.json:
        show_json({"clips": clips, "hours": hours, "failed": failed})
    else:
        show_facts({"clips": f"{clips:,}", "audio": f"{hours:.2f} h", "written to": options.output})
    if failed:
        say(f"{len(failed)} of {len(corpus)} clips could not be decoded.")
    return 1 if failed else 0


def _batches(
    corpus: TokenizedCorpus, decoding: Decoding, options: argparse.Namespace
) -> Iterator[dict[FileJob, EncodedFile]]:
    """The clips of some rows at a time, by their jobs."""
    targets: set[str] = set()
    columns = ["id", "num_samples", *([] if corpus.metadata.level_lufs is None else ["audio_scale"])]
    for table in corpus.tables(["ids", *columns]):
        clips: dict[FileJob, EncodedFile] = {}
        values = zip(*(table[column].to_pylist() for column in columns), strict=True)
        for number, ((name, *facts), stored) in enumerate(zip(values, corpus.stored_ids(table), strict=True)):
            with decoding.failures.of(f"row {number}" if name is None else name):
                if name is None or None in facts:
                    raise ValueError(f"row {number} has no {' or no '.join(columns)}: it is left out.")
                ids = corpus.joined(stored)
                target = target_below(options.output, f"{name}.{options.audio_format}")
                if target in targets:
                    raise ValueError(f"{name} is the id of two clips: the second one is left out.")
                header = _header(corpus.metadata, *facts)
                if header.num_ids != len(ids):
                    raise ValueError(f"{name} has {len(ids)} ids for {header.num_samples} samples: tokenize it again.")
                targets.add(target)
                clips[FileJob(name, target)] = EncodedFile(header, ids, header.num_samples)
        yield clips


def _header(metadata: CorpusMetadata, num_samples: int, audio_scale: float = 1.0) -> Header:
    """The header that a `.l3ac` file of a clip would have."""
    from ..container import Header

    return Header(
        metadata.model,
        metadata.weights_digest,
        metadata.levels,
        metadata.sampling_rate,
        metadata.hop_length,
        num_samples,
        audio_scale=audio_scale,
    )


def target_below(folder: str, name: str) -> str:
    """Path of the file in `folder` that a clip's id names.

    Raises:
        ValueError: it is not below the folder.
    """
    root = os.path.abspath(folder)
    target = os.path.normpath(os.path.join(root, name))
    if os.path.isabs(name) or not target.startswith(os.path.join(root, "")) or not is_within(target, root):
        raise ValueError(f"the id {name!r} leads out of {folder}: such a clip is left out.")
    return target
