"""Train a small language model on a tokenized corpus, measure it, and let it continue a clip.

    l3ac tokenize AUDIO_FOLDER -o CORPUS
    python recipes/speech_lm.py CORPUS --run RUN --prompt clip.wav

It needs the extras `data` and `train`, and writes the model, `results.json` and `continuation.flac` to `RUN`. A Llama
from transformers reads and predicts ids through `FSQEmbedding` and `FSQHead`, trained with `Trainer`. Its bits per id
on held-out speakers are compared with those of models without context, fitted to the same training ids:

- uniform: log2 of the codebook size;
- unigram: (n + a) / (N + a C) for an id seen n times among N, with codebook size C; `a` maximizes the likelihood of
  each training id given all others (leave-one-out);
- unigram of digits: the product over the digits of (n + 1/2) / (N + L/2), where L is the number of levels of the digit
  (Krichevsky and Trofimov, 1981).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from datasets import Dataset, load_dataset
from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import CausalLMOutput

from l3ac_tokenizer import CodecModel, FSQEmbedding, FSQHead, join_ids
from l3ac_tokenizer.audio import read_audio, write_audio
from l3ac_tokenizer.files import atomic_write
from l3ac_tokenizer.inference import decode_clips, encode_clips
from l3ac_tokenizer.language_model import IGNORED_ID
from l3ac_tokenizer.markup import printable
from l3ac_tokenizer.quantization import ids_to_digits
from l3ac_tokenizer.tokenization.reader import TokenizedCorpus
from l3ac_tokenizer.tokenization.spec import CorpusMetadata


@dataclass
class Config:
    """Configuration of the recipe; `recipes/speech_lm.yaml` documents the fields."""

    model: dict[str, Any]
    training: dict[str, Any]
    context: int = 512
    embedding: str = "codes"
    head: str = "chained"
    held_out: float = 0.1
    validation: float = 0.1


# ---------------------------------------------------------------------------------------------- the model


@strict
class SpeechLMConfig(LlamaConfig):
    """Configuration of a Llama over ids with its embedding and head; its own vocabulary is a single start token."""

    model_type = "l3ac_speech_lm"

    vocab_size: int = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = None
    levels: list[int] | tuple[int, ...] = (7, 7, 7, 7, 7, 7)
    embedding: str = "codes"
    head: str = "chained"


class SpeechLM(LlamaForCausalLM):
    """Llama over ids (B, N), which predicts each id from a learned start and the previous ids."""

    config: SpeechLMConfig
    config_class = SpeechLMConfig
    _tied_weights_keys = {}  # noqa: RUF012 - as transformers declares it

    def __init__(self, config: SpeechLMConfig):
        super().__init__(config)
        self.id_embedding = FSQEmbedding(config.levels, config.hidden_size, config.embedding)
        self.lm_head = FSQHead(config.hidden_size, config.levels, config.head)
        self.post_init()

    def features(self, ids: Tensor) -> Tensor:
        """Ids (B, N) → features (B, N, D), each computed from the previous ids."""
        return self.model(inputs_embeds=self._embed(ids[:, :-1])).last_hidden_state

    def forward(self, ids: Tensor, labels: Tensor) -> CausalLMOutput:
        """Return the loss in nats per id; `labels` are `ids` with `IGNORED_ID` at padding."""
        return CausalLMOutput(loss=self.lm_head.loss(self.features(ids), labels))

    @torch.no_grad()
    def continue_ids(
        self, ids: Tensor, count: int, temperature: float = 1.0, top_p: float = 1.0, seed: int = 0
    ) -> Tensor:
        """Ids (B, N) → `count` sampled ids (B, count) that continue them."""
        generator = torch.Generator(self.device).manual_seed(seed)
        cache = DynamicCache(config=self.config)
        inputs, drawn = self._embed(ids), []
        for _ in range(count):
            features = self.model(inputs_embeds=inputs, past_key_values=cache, use_cache=True).last_hidden_state
            drawn.append(self.lm_head.sample(features[:, -1:], temperature, top_p, generator))
            inputs = self.id_embedding(drawn[-1])
        return torch.cat(drawn, dim=1)

    def _embed(self, ids: Tensor) -> Tensor:
        """Ids (B, N) → features (B, N + 1, D), including the start."""
        start = self.model.embed_tokens(torch.zeros(len(ids), 1, dtype=torch.long, device=ids.device))
        return torch.cat([start, self.id_embedding(ids)], dim=1)


# ---------------------------------------------------------------------------------------------- the corpus


def part_of(row: dict[str, Any], held_out: float, validation: float) -> str:
    """Return the part of the corpus that a clip belongs to, by the hash of its speaker or, without one, of its id."""
    voice = row.get("speaker") or row["id"]
    place = int.from_bytes(hashlib.sha256(voice.encode()).digest()[:8], "big") / 2**64
    return "held_out" if place < held_out else "validation" if place < held_out + validation else "train"


def split_corpus(corpus: TokenizedCorpus, config: Config, cache: Path) -> dict[str, Dataset]:
    """Split the clips of each part into chunks of at most `config.context` ids; no chunk crosses clips.

    Raises:
        ValueError: A part is empty.
    """
    split, levels = corpus.metadata.split, corpus.metadata.levels
    rows = load_dataset("parquet", data_files=list(map(str, corpus.files)), split="train", cache_dir=str(cache))

    def chunks(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        clips = [np.asarray(ids, dtype=np.int64) for ids in batch["ids"]]
        if split > 1:
            clips = [join_ids(clip.reshape(-1, split), levels, split) for clip in clips]
        starts = [range(0, len(clip), config.context) for clip in clips]
        return {"ids": [clip[i : i + config.context] for clip, each in zip(clips, starts, strict=True) for i in each]}

    parts = {}
    for name in ("train", "validation", "held_out"):
        part = rows.filter(lambda row, name=name: part_of(row, config.held_out, config.validation) == name)
        if len(part) == 0:
            raise ValueError(f"The corpus of {len(rows)} clips has none in the part {name!r}; give more clips.")
        parts[name] = part.map(chunks, batched=True, remove_columns=part.column_names).with_format("numpy")
    return parts


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Batch chunks, padded on the right."""
    chunks = [torch.tensor(row["ids"], dtype=torch.long) for row in rows]
    return {
        "ids": torch.nn.utils.rnn.pad_sequence(chunks, batch_first=True),
        "labels": torch.nn.utils.rnn.pad_sequence(chunks, batch_first=True, padding_value=IGNORED_ID),
    }


def all_ids(part: Dataset) -> np.ndarray:
    """Return all ids (N,) of a part, int64."""
    return np.concatenate([row["ids"] for row in part]).astype(np.int64)


# ---------------------------------------------------------------------------------------------- bits per id


def unigram_bits(train: np.ndarray, held_out: np.ndarray, codebook_size: int) -> tuple[float, float]:
    """Return the bits per id of a smoothed unigram model on held-out ids (N,), and its `a` (see above)."""
    counts = np.bincount(train, minlength=codebook_size)
    seen = counts[train]

    def left_out(a: float) -> float:
        return float(np.log2(seen - 1 + a).mean() - math.log2(len(train) - 1 + a * codebook_size))

    a = max((2.0**exponent for exponent in np.arange(-16, 8, 0.25)), key=left_out)
    bits = math.log2(len(train) + a * codebook_size) - np.log2(counts[held_out] + a).mean()
    return float(bits), a


def digit_unigram_bits(train: np.ndarray, held_out: np.ndarray, levels: Sequence[int]) -> float:
    """Return the bits per id of the product of the digits' unigram models on held-out ids (N,)."""
    bits = 0.0
    trained, measured = (ids_to_digits(torch.from_numpy(ids), levels).numpy() for ids in (train, held_out))
    for digit, level in enumerate(levels):
        weights = np.bincount(trained[:, digit], minlength=level) + 0.5
        bits -= float(np.log2(weights / weights.sum())[measured[:, digit]].mean())
    return bits


@torch.no_grad()
def model_bits(model: SpeechLM, part: Dataset, batch_size: int) -> float:
    """Return the bits per id of the model over all ids of a part."""
    model.eval()
    nats, count = 0.0, 0
    for start in range(0, len(part), batch_size):
        batch = collate([part[index] for index in range(start, min(start + batch_size, len(part)))])
        counted = batch["labels"] != IGNORED_ID
        features = model.features(batch["ids"].to(model.device))[counted.to(model.device)]
        nats -= float(model.lm_head.log_prob(features, batch["ids"][counted].to(model.device)).double().sum())
        count += int(counted.sum())
    return nats / math.log(2) / count


# ---------------------------------------------------------------------------------------------- the run


def load_config(path: str, run: Path) -> tuple[Config, TrainingArguments]:
    """Read the configuration of the recipe and of `Trainer`.

    Raises:
        OSError: The file cannot be read.
        ValueError: A key is unknown.
    """
    try:
        config = Config(**yaml.safe_load(Path(path).read_text()))
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
    model = SpeechLM(
        SpeechLMConfig(
            levels=metadata.levels,
            embedding=config.embedding,
            head=config.head,
            max_position_embeddings=config.context,
            **config.model,
        )
    )
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
        f"language model ({model.num_parameters() / 1e6:.1f} million parameters)": model_bits(
            model, parts["held_out"], batch_size
        ),
    }
    return {
        "bits_per_id": dict(sorted(bits.items(), key=lambda item: -item[1])),
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


def run_recipe(options: argparse.Namespace) -> dict[str, Any]:
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
    parts = split_corpus(corpus, config, run / "cache")
    prompt = read_ids(codec, options.prompt) if options.prompt else parts["held_out"][0]["ids"].astype(np.int64)

    started = time.monotonic()
    model = train(parts, metadata, config, arguments, run)
    results = {
        "training_minutes": (time.monotonic() - started) / 60,
        **measure(model, parts, metadata, arguments.per_device_eval_batch_size),
        "frame_rate": codec.config.frame_rate,
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
        lines.append(f"| {name} | {bits:.2f} | {bits * results['frame_rate']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments and run the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", metavar="CORPUS", help="output folder of `l3ac tokenize`")
    parser.add_argument(
        "--run", required=True, metavar="FOLDER", help="folder for the model, the results and the audio"
    )
    parser.add_argument(
        "--config",
        default=str(Path(__file__).with_suffix(".yaml")),
        metavar="FILE",
        help="configuration",
    )
    parser.add_argument("--model", default="l3ac-1k-light", metavar="NAME_OR_DIR", help="codec (default: %(default)s)")
    parser.add_argument("--prompt", metavar="FILE", help="clip to continue (default: a held-out one)")
    parser.add_argument(
        "--prompt-seconds", type=float, default=3.0, help="seconds of the clip to start from (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds to generate (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.9, help="sampling temperature (default: %(default)s)")
    parser.add_argument("--top-p", type=float, default=0.98, help="nucleus of each digit (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the continuation (default: %(default)s)")
    options = parser.parse_args()
    try:
        results = run_recipe(options)
    except (OSError, ValueError) as error:
        sys.exit(printable(f"speech_lm: {error}"))
    print(markdown_table(results))
    print(printable(f"continuation: {Path(options.run) / 'continuation.flac'}"))


if __name__ == "__main__":
    main()
