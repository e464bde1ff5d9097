"""Ids in a causal language model of text: `extend_causal_lm` beside an embedding matrix resized to all ids.

    l3ac tokenize AUDIO_WITH_TRANSCRIPTS -o CORPUS
    python -m benchmarks.extended_lm CORPUS [--steps 300] [--width 256] [--layers 4]

CORPUS has transcripts (`text`), e.g. that of a folder in the layout of LJSpeech. Each clip is one sequence, its text in
bytes and then its ids. All models have the same random Qwen2 inside, the same batches and the same optimizer (AdamW);
every tenth clip is held out. Each is trained in a process of its own with one thread, whose peak memory and seconds of
CPU time are stated, and then generates ids one at a time. Losses are nats over the joint vocabulary, of text and of ids
separately.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoFeatureExtractor, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from l3ac_tokenizer import AudioLogitsProcessor, CodecModel, L3ACProcessor, extend_causal_lm
from l3ac_tokenizer.tokenization.reader import TokenizedCorpus

VARIANTS: dict[str, dict[str, Any]] = {
    "resized matrix, tied": {"tied": True},
    "resized matrix, input and output": {"tied": False},
    "extended, split head": {"head": "split"},
    "extended, chained head": {"head": "chained"},
    "extended, independent head": {"head": "independent"},
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte of UTF-8."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({piece: index for index, piece in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<|pad|>", eos_token="<|end|>")


def make_model(processor: L3ACProcessor, variant: dict[str, Any], width: int, layers: int) -> Any:
    """The language model of a variant, with the same random weights inside."""
    torch.manual_seed(0)
    extended = "head" in variant
    lm = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=processor.audio_offset,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            num_key_value_heads=width // 64,
            tie_word_embeddings=variant.get("tied", True),
        )
    )
    if extended:
        return extend_causal_lm(lm, processor, head=variant["head"])
    lm.resize_token_embeddings(processor.vocab_size, mean_resizing=False)
    return lm


def losses(model: Any, batch: Any, offset: int) -> tuple[float, float]:
    """Nats per text token and per id of a batch, over the joint vocabulary."""
    targets = batch["labels"][:, 1:]
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].float()
    each = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return each[(targets >= 0) & (targets < offset)].mean().item(), each[targets >= offset].mean().item()


def measure(options: argparse.Namespace, variant: dict[str, Any]) -> dict[str, float]:
    """Train and measure one variant."""
    torch.set_num_threads(1)
    codec = CodecModel.from_pretrained(options.codec)
    extractor = AutoFeatureExtractor.from_pretrained(options.codec, trust_remote_code=False)
    processor = L3ACProcessor(extractor, byte_tokenizer(), audio_tokenizer=codec)
    corpus = TokenizedCorpus(options.corpus)
    sequences = [
        processor.encode_parts([{"type": "text", "text": text}, {"type": "audio", "ids": ids}])[: options.context]
        for table in corpus.tables(["ids", "text"])
        for text, ids in zip(table["text"].to_pylist(), corpus.whole_ids(table), strict=True)
    ]
    held_out, trained = sequences[::10], [each for index, each in enumerate(sequences) if index % 10]
    model = make_model(processor, variant, options.width, options.layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, betas=(0.9, 0.95), weight_decay=0.01)
    draw = random.Random(0)
    seconds = []
    for step in range(options.steps):
        batch = processor.pad(draw.sample(trained, options.batch), return_tensors="pt", output_labels=True)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min(1.0, (step + 1) / 20)
        start = time.process_time()
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - start)
    result = {"parameters": sum(weight.numel() for weight in model.parameters()), "step_seconds": median(seconds)}
    result["training_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    model.eval()
    with torch.inference_mode():
        each = [
            losses(model, processor.pad([row], return_tensors="pt", output_labels=True), processor.audio_offset)
            for row in held_out[: options.held_out]
        ]
        result["text_nats"], result["id_nats"] = (sum(values) / len(values) for values in zip(*each, strict=True))
        prompt = processor.encode([{"type": "text", "text": "Hello."}], open_audio=True, return_tensors="pt")
        only_ids = AudioLogitsProcessor(processor, "audio", min_ids=options.generated)
        start = time.process_time()
        model.generate(**prompt, logits_processor=[only_ids], max_new_tokens=options.generated, do_sample=True)
        result["seconds_per_id"] = (time.process_time() - start) / options.generated
    return result


def main() -> None:
    """Parse the arguments, measure each variant in its own process, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, metavar="CORPUS", help="tokenized corpus with transcripts")
    parser.add_argument("--codec", default="l3ac-1k-light", help="codec that made it (default: %(default)s)")
    parser.add_argument("--width", type=int, default=256, help="features (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=4, help="layers (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="training steps (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="clips in a step (default: %(default)s)")
    parser.add_argument("--context", type=int, default=512, help="most tokens of a clip (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=60, help="most clips to measure (default: %(default)s)")
    parser.add_argument("--generated", type=int, default=50, help="ids to generate (default: %(default)s)")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--variant", choices=list(VARIANTS), help=argparse.SUPPRESS)  # the one of a child process
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(measure(options, VARIANTS[options.variant])))
        return
    print("| model | parameters, M | memory, GB | CPU s per step | per generated id | nats per text token | per id |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in options.variants:
        command = [sys.executable, "-P", __file__, *sys.argv[1:], "--variant", name]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
        print(
            f"| {name} | {found['parameters'] / 1e6:.1f} | {found['training_bytes'] / 1e9:.2f} "
            f"| {found['step_seconds']:.2f} | {found['seconds_per_id']:.3f} "
            f"| {found['text_nats']:.2f} | {found['id_nats']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
