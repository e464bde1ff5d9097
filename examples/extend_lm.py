"""Text and audio in an existing language model: it learns to say the texts beside clips, and is saved with its codec.

    python examples/extend_lm.py Qwen/Qwen2.5-0.5B AUDIO_WITH_TEXTS EXTENDED 1000

AUDIO_WITH_TEXTS has clip.wav and clip.txt side by side.
"""

import random
import sys
from pathlib import Path

import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForCausalLM, AutoTokenizer

from l3ac_tokenizer import AudioLogitsProcessor, L3ACProcessor, extend_causal_lm

name, folder, target, steps = sys.argv[1:]
codec, extractor = (auto.from_pretrained("l3ac-1k-light") for auto in (AutoModel, AutoFeatureExtractor))
processor = L3ACProcessor(extractor, AutoTokenizer.from_pretrained(name), audio_tokenizer=codec)
lm = extend_causal_lm(AutoModelForCausalLM.from_pretrained(name), processor)

pairs = [
    [{"type": "text", "text": path.read_text()}, {"type": "audio", "audio": path.with_suffix(".wav")}]
    for path in sorted(Path(folder).glob("*.txt"))
]
sequences = processor.encode(pairs)["input_ids"]
optimizer = torch.optim.AdamW(lm.parameters(), lr=1e-4)
for step in range(int(steps)):
    batch = processor.pad(random.choices(sequences, k=4), return_tensors="pt", output_labels=True)
    loss = lm(**batch).loss  # over text and ids together
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"step {step}: {loss.item():.2f}")
lm.save_pretrained(target)
processor.save_pretrained(target)

prompt = processor.encode([pairs[0][0]], open_audio=True, return_tensors="pt")  # a text to say
tokens = lm.generate(**prompt, logits_processor=[AudioLogitsProcessor(processor, max_ids=300)], max_new_tokens=400)
print(processor.decode_parts(tokens[0], errors="close"))
