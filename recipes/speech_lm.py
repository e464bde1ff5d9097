"""Train a small language model on a tokenized corpus, measure it, listen to it, and test which clips it finds likely.

    l3ac tokenize AUDIO_FOLDER -o CORPUS
    python recipes/speech_lm.py train CORPUS --run RUN --prompt clip.wav
    python recipes/speech_lm.py continue clip.wav --run RUN -o PAGE
    python recipes/speech_lm.py score PAIRS.csv --run RUN -o SCORES
    python recipes/speech_lm.py pairs HELD_OUT_AUDIO -o PAIRS

It needs the extras `data` and `train`.

- `train` writes the model, `results.json` and `continuation.flac` to `RUN`. A Llama from transformers reads and
  predicts ids through `FSQEmbedding` and `FSQHead`, trained with `Trainer`. Its bits per id on held-out speakers are
  compared with those of models without context (`l3ac_tokenizer/speech_lm/unigram.py`).
- `continue` lets the model continue clips and writes a page to listen to them, `PAGE/index.html`. Whisper's text stands
  beside them where the extra `eval-offline` is installed (`l3ac_tokenizer/speech_lm/continuations.py`).
- `score` states how often the positive clip of a pair is likelier than the negative one: the test of sWUGGY, sBLIMP,
  StoryCloze and SALMon, whose folders it reads, too (`l3ac_tokenizer/speech_lm/benchmarks.py`).
- `pairs` makes such pairs from any audio (`l3ac_tokenizer/speech_lm/disturbances.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from datasets import Dataset
from torch import Tensor
from transformers import Trainer, TrainingArguments

from l3ac_tokenizer import CodecEncoderModel, CodecModel
from l3ac_tokenizer.asr import Recognizer, open_recognizer
from l3ac_tokenizer.audio import read_audio, write_audio
from l3ac_tokenizer.cli.options import add_outside
from l3ac_tokenizer.files import atomic_write
from l3ac_tokenizer.inference import decode_clips, encode_clips
from l3ac_tokenizer.markup import printable
from l3ac_tokenizer.speech_lm.accuracy import markdown_table as accuracy_table
from l3ac_tokenizer.speech_lm.accuracy import require_codec, score_pairs, write_scores
from l3ac_tokenizer.speech_lm.benchmarks import read_pairs
from l3ac_tokenizer.speech_lm.continuations import Sampling, write_continuations
from l3ac_tokenizer.speech_lm.corpus import all_ids, collate, split_corpus
from l3ac_tokenizer.speech_lm.disturbances import list_voices, write_pairs
from l3ac_tokenizer.speech_lm.likelihood import bits_per_id
from l3ac_tokenizer.speech_lm.model import SpeechLM, SpeechLMConfig
from l3ac_tokenizer.speech_lm.unigram import digit_unigram_bits, unigram_bits
from l3ac_tokenizer.speechbrain import TokenRecognizer
from l3ac_tokenizer.tokenization.reader import TokenizedCorpus
from l3ac_tokenizer.tokenization.spec import CorpusMetadata


@dataclass
class Config:
    """Configuration of the recipe; `recipes/speech_lm.yaml` documents the fields."""

    training: dict[str, Any]
    model: dict[str, Any] | None = None
    init_from: str | None = None
    context: int = 512
    embedding: str = "codes"
    head: str = "chained"
    held_out: float = 0.1
    validation: float = 0.1


# ---------------------------------------------------------------------------------------------- training


def load_config(path: str, run: Path) -> tuple[Config, TrainingArguments]:
    """Read the configuration of the recipe and of `Trainer`.

    Raises:
        OSError: The file cannot be read.
        ValueError: A key is unknown, or it has not exactly one of `model` and `init_from`.
    """
    try:
        config = Config(**yaml.safe_load(Path(path).read_text()))
        if (config.model is None) == (config.init_from is None):
            raise ValueError(f"{path} must have `model` or `init_from`, and not both: see recipes/speech_lm.yaml.")
        folder = str(run / "checkpoints")
        return config, TrainingArguments(output_dir=folder, remove_unused_columns=False, **config.training)
    except TypeError as error:
        raise ValueError(
            f"{path} is not a configuration of this recipe ({error}): see recipes/speech_lm.yaml."
        ) from error


def train(
    parts: dict[str, Dataset], metadata: CorpusMetadata, config: Config, arguments: TrainingArguments, run: Path
) -> SpeechLM:
    """Train on one part, keep the epoch that is best on another."""
    torch.manual_seed(arguments.seed)
    fields: dict[str, Any] = {
        "levels": metadata.levels,
        "embedding": config.embedding,
        "head": config.head,
        "weights_digest": metadata.weights_digest,
        "level_lufs": metadata.level_lufs,
        "max_position_embeddings": config.context,
    }
    if config.init_from:
        model = SpeechLM.from_text_model(config.init_from, **fields)
    else:
        model = SpeechLM(SpeechLMConfig(**fields, **(config.model or {})))
    trainer = Trainer(
        model=model,
        args=arguments,
        data_collator=collate,
        train_dataset=parts["train"],
        eval_dataset=parts["validation"],
    )
    trainer.train()
    model.save_pretrained(run / "model")
    return model


def measure(model: SpeechLM, parts: dict[str, Dataset], metadata: CorpusMetadata, batch_size: int) -> dict[str, Any]:
    """Bits an id on the held-out part, beside models without context, the worst first."""
    fitted, held_out = all_ids(parts["train"]), all_ids(parts["held_out"])
    codebook_size = math.prod(metadata.levels)
    unigram, a = unigram_bits(fitted, held_out, codebook_size)
    bits = {
        "uniform": math.log2(codebook_size),
        f"unigram (a = {a:.3g})": unigram,
        "unigram of digits": digit_unigram_bits(fitted, held_out, metadata.levels),
        f"language model ({model.num_parameters() / 1e6:.1f} million parameters)": bits_per_id(
            model, [row["ids"] for row in parts["held_out"]], batch_size
        ),
    }
    worst_first = dict(sorted(bits.items(), key=lambda item: -item[1]))
    frame_rate = metadata.sampling_rate / metadata.hop_length
    return {
        "bits_per_id": worst_first,
        "bits_per_second": {name: value * frame_rate for name, value in worst_first.items()},
        "frame_rate": frame_rate,
        "ids": {name: len(all_ids(part)) for name, part in parts.items()},
    }


def prompt_and_count(codec: CodecModel, options: argparse.Namespace, context: int) -> tuple[int, int]:
    """Return the number of ids in the prompt and in its continuation.

    Raises:
        ValueError: Together they exceed the context that the model is trained with.
    """
    prompt, count = (
        math.ceil(seconds * codec.config.frame_rate) for seconds in (options.prompt_seconds, options.seconds)
    )
    if prompt + count > context:
        raise ValueError(
            f"A prompt of {prompt} ids and a continuation of {count} exceed the context of {context} ids: "
            "lower --prompt-seconds or --seconds."
        )
    return prompt, count


def read_ids(codec: CodecModel, path: str) -> np.ndarray:
    """Encode an audio file to ids (N,)."""
    wave, _ = read_audio(path, codec.config.sampling_rate)
    return encode_clips(codec, [wave])[0]


def to_audio(codec: CodecModel, ids: Tensor) -> np.ndarray:
    """Ids (1, N) → audio (T,)."""
    return decode_clips(codec, [ids[0].cpu().numpy()], [ids.shape[1] * codec.config.hop_length], "clip")[0]


def run_training(options: argparse.Namespace) -> dict[str, Any]:
    """Train and measure the model, continue a prompt, write everything to the run, and return the results.

    Raises:
        ValueError: The codec is not that of the corpus, or an option is out of range.
        OSError: A file cannot be read or written.
    """
    run = Path(options.run)
    config, arguments = load_config(options.config, run)
    corpus = TokenizedCorpus(options.corpus)
    metadata = corpus.metadata
    codec = CodecModel.from_pretrained(options.model).eval()
    remedy = "give --model the one that made it, or tokenize again"
    metadata.made_by.require(codec, options.model, f"The corpus was made by {metadata.model} with", remedy)
    length, count = prompt_and_count(codec, options, config.context)
    parts = split_corpus(corpus, config.context, config.held_out, config.validation, run / "cache")
    prompt = read_ids(codec, options.prompt) if options.prompt else parts["held_out"][0]["ids"].astype(np.int64)

    started = time.monotonic()
    model = train(parts, metadata, config, arguments, run)
    results = {
        "training_minutes": (time.monotonic() - started) / 60,
        **measure(model, parts, metadata, arguments.per_device_eval_batch_size),
        "codec": {"model": metadata.model, "weights_digest": metadata.weights_digest},
        "config": asdict(config),
    }
    with atomic_write(run / "results.json") as file:
        file.write(json.dumps(results, indent=2).encode())

    given = torch.from_numpy(prompt[:length])[None].to(model.device)
    drawn = model.continue_ids(given, count, options.temperature, options.top_p, options.seed)
    audio = to_audio(codec, torch.cat([given, drawn], dim=1))
    write_audio(run / "continuation.flac", audio, codec.config.sampling_rate)
    return results


def markdown_table(results: dict[str, Any]) -> str:
    """Format the results as Markdown."""
    lines = [f"held out: {results['ids']['held_out']} ids; trained on {results['ids']['train']}", ""]
    lines += ["| model | bits per id | bits per second |", "| --- | ---: | ---: |"]
    for name, bits in results["bits_per_id"].items():
        lines.append(f"| {name} | {bits:.2f} | {results['bits_per_second'][name]:.0f} |")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------- continuations


def load_model(run: str) -> SpeechLM:
    """Load the language model of a run, in evaluation mode.

    Raises:
        OSError: The run has none.
    """
    folder = Path(run) / "model"
    if not folder.is_dir():
        raise FileNotFoundError(f"{run} has no folder `model`: give the folder of `speech_lm.py train`.")
    model = SpeechLM.from_pretrained(folder).eval()
    if torch.cuda.is_available():
        torch.nn.Module.cuda(model)  # the wrapper of transformers has no types
    return model


def open_whisper() -> Recognizer | None:
    """Whisper tiny.en, or None without the packages of the extra `eval-offline`."""
    try:
        return open_recognizer("faster-whisper")
    except ModuleNotFoundError:
        return None


def open_token_asr(options: argparse.Namespace) -> TokenRecognizer:
    """The recognizer of ids, with the package that compares its words.

    Raises:
        ValueError: A package is missing, the run is not trusted, or it was trained on ids of another codec.
        OSError: The run cannot be read.
    """
    try:
        import jiwer  # noqa: F401 - missed here, not after the first continuations

        return TokenRecognizer(options.token_asr, trust=options.trust, codec=options.model)
    except ModuleNotFoundError as error:
        remedy = "pip install 'l3ac-tokenizer[speechbrain,eval]'"
        raise ValueError(f"--token-asr needs the package {error.name}: {remedy}.") from error


def run_continuing(options: argparse.Namespace) -> str:
    """Continue clips on a page, and return where it is.

    Raises:
        ValueError: The codec is not that of the language model, a clip is not audio, or an option is out of range.
        OSError: A file cannot be read or written.
    """
    model = load_model(options.run)
    codec = CodecModel.from_pretrained(options.model).eval()
    require_codec(model, codec, options.model)
    length, count = prompt_and_count(codec, options, model.config.max_position_embeddings)
    sampling = Sampling(length, count, options.temperature, options.top_p, options.seed)
    hear = open_whisper()
    read = open_token_asr(options) if options.token_asr else None
    facts = {
        "language model": f"{options.run}, {model.num_parameters() / 1e6:.1f} million parameters",
        "codec": f"{options.model}, {codec.config.frame_rate:.1f} ids a second",
        "length": f"{options.seconds:g} s after the first {options.prompt_seconds:g} s of the clip",
        "sampling": f"temperature {options.temperature:g}, top-p {options.top_p:g} of each digit, seed {options.seed}",
        "text": hear.label if hear else "none: pip install 'l3ac-tokenizer[eval-offline]'",
    }
    if read:
        facts["text of ids"] = read.label
    page = write_continuations(
        [Path(path) for path in options.prompts],
        model,
        codec,
        sampling,
        options.continuations,
        facts,
        hear,
        Path(options.output),
        read.recognize_ids if read else None,
    )
    return f"page: {page}"


# ---------------------------------------------------------------------------------------------- likelihood tests


def run_scoring(options: argparse.Namespace) -> dict[str, Any]:
    """Score the pairs, write the scores to the output folder, and return the results.

    Raises:
        ValueError: The codec is not that of the language model, or the pairs cannot be read or have no two clips.
        OSError: A file cannot be read or written.
    """
    pairs = read_pairs(options.pairs, allow_outside=options.allow_outside)
    model = load_model(options.run)
    codec = CodecEncoderModel.from_pretrained(options.model).eval()
    require_codec(model, codec, options.model)
    scored = score_pairs(pairs.pairs, codec, model)
    facts = {"pairs": options.pairs, "run": options.run, "weights_digest": model.config.weights_digest}
    return write_scores(scored, pairs, facts, Path(options.output))


def make_pairs(options: argparse.Namespace) -> str:
    """Make pairs of the clips of a folder or manifest, and return what was done.

    Raises:
        ValueError: The audio cannot be listed.
        OSError: A file cannot be read or written.
    """
    count, left_out = write_pairs(list_voices(options.audio), Path(options.output))
    return "\n".join([f"{count} pairs: {Path(options.output) / 'pairs.csv'}", *left_out])


# ---------------------------------------------------------------------------------------------- the command line


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; `command` of the result runs the command and returns what to print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a language model and let it continue a clip")
    train.set_defaults(command=_train)
    train.add_argument("corpus", metavar="CORPUS", help="output folder of `l3ac tokenize`")
    train.add_argument("--run", required=True, metavar="FOLDER", help="folder for the model, the results and the audio")
    train.add_argument(
        "--config", default=str(Path(__file__).with_suffix(".yaml")), metavar="FILE", help="configuration"
    )
    train.add_argument("--prompt", metavar="FILE", help="clip to continue (default: a held-out one)")

    onward = commands.add_parser("continue", help="let the language model continue clips, on a page to listen to")
    onward.set_defaults(command=run_continuing)
    onward.add_argument("prompts", nargs="+", metavar="PROMPT", help="audio files, whose beginnings are continued")
    onward.add_argument("--run", required=True, metavar="FOLDER", help="folder of `train`")
    onward.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder for the page and its audio")
    onward.add_argument(
        "--continuations", type=int, default=2, metavar="N", help="continuations of each clip (default: %(default)s)"
    )
    onward.add_argument(
        "--token-asr",
        metavar="FOLDER",
        help="recognizer that reads the ids of each continuation: output_folder of recipes/LibriSpeech/ASR",
    )
    onward.add_argument("--trust", action="store_true", help="run the recognizer's hyperparams.yaml, which may be code")
    for command in (train, onward):
        command.add_argument(
            "--prompt-seconds", type=float, default=3.0, help="seconds of the clip to start from (default: %(default)s)"
        )
        command.add_argument("--seconds", type=float, default=4.0, help="seconds to generate (default: %(default)s)")
        command.add_argument(
            "--temperature", type=float, default=0.9, help="sampling temperature (default: %(default)s)"
        )
        command.add_argument("--top-p", type=float, default=0.98, help="nucleus of each digit (default: %(default)s)")
        command.add_argument("--seed", type=int, default=0, help="seed of the continuation (default: %(default)s)")

    score = commands.add_parser("score", help="test which clip of each pair the language model finds likelier")
    score.set_defaults(command=_score)
    score.add_argument(
        "pairs",
        metavar="PAIRS",
        help="table with the columns positive, negative, group and item, or a benchmark's folder",
    )
    score.add_argument("--run", required=True, metavar="FOLDER", help="folder of `train`")
    score.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder for the scores")
    add_outside(score)
    for command in (train, onward, score):
        command.add_argument(
            "--model", default="l3ac-1k-light", metavar="NAME_OR_DIR", help="codec (default: %(default)s)"
        )

    pairs = commands.add_parser("pairs", help="make pairs of clips and disturbed clips")
    pairs.set_defaults(command=make_pairs)
    pairs.add_argument("audio", metavar="AUDIO", help="folder of audio, or a manifest with speakers")
    pairs.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder for the clips and pairs.csv")
    return parser.parse_args(arguments)


def _train(options: argparse.Namespace) -> str:
    continuation = f"continuation: {Path(options.run) / 'continuation.flac'}"
    return f"{markdown_table(run_training(options))}\n{continuation}"


def _score(options: argparse.Namespace) -> str:
    return accuracy_table(run_scoring(options))


def main() -> None:
    """Parse the arguments and run the command."""
    options = parse_arguments()
    try:
        print(printable(options.command(options), keep="\n"))
    except (OSError, ValueError) as error:
        sys.exit(printable(f"speech_lm: {error}"))


if __name__ == "__main__":
    main()
