"""A speech language model from nothing: a small Llama learns the ids of a folder of audio, then continues a clip.

    python examples/speech_lm.py AUDIO_FOLDER prompt.wav SPEECH_LM continued.wav --steps 2000
"""

import argparse
import random
from pathlib import Path

import soundfile
import torch
from tokenizers import Tokenizer, models
from transformers import AutoFeatureExtractor, AutoModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from l3ac_tokenizer import AudioLogitsProcessor, L3ACProcessor, extend_causal_lm

parser = argparse.ArgumentParser()
parser.add_argument("audio", type=Path)
parser.add_argument("prompt")
parser.add_argument("target", help="folder for the model and its processor")
parser.add_argument("wav")
parser.add_argument("--steps", type=int, default=2000)
options = parser.parse_args()

no_text = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), eos_token="</s>", pad_token="</s>")
codec, extractor = (auto.from_pretrained("l3ac-1k-light") for auto in (AutoModel, AutoFeatureExtractor))
processor = L3ACProcessor(extractor, no_text, audio_tokenizer=codec)
llama = LlamaConfig(vocab_size=len(no_text), hidden_size=256, intermediate_size=704, num_hidden_layers=6)
lm = extend_causal_lm(LlamaForCausalLM(llama), processor)

clips = [[{"type": "audio", "audio": path}] for path in sorted(options.audio.rglob("*.wav"))]
rows = processor.encode(clips)["input_ids"]  # resampled, downmixed and encoded
optimizer = torch.optim.AdamW(lm.parameters(), lr=3e-4)
for step in range(options.steps):
    batch = processor.pad(random.choices(rows, k=8), return_tensors="pt", output_labels=True)
    loss = lm(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"step {step}: {loss:.2f} nats per id")
...
