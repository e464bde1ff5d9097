"""A speech language model from nothing: a small Llama learns the ids of a folder of audio, then continues a clip.

python examples/speech_lm.py AUDIO_FOLDER prompt.wav SPEECH_LM continued.wav 2000
"""

import random
import sys
from pathlib import Path

import soundfile
import torch
from tokenizers import Tokenizer, models
from transformers import AutoFeatureExtractor, AutoModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from l3ac_tokenizer import AudioLogitsProcessor, L3ACProcessor, extend_causal_lm

folder, prompt, target, continued, steps = sys.argv[1:]
codec, extractor = (auto.from_pretrained("l3ac-1k-light") for auto in (AutoModel, AutoFeatureExtractor))
no_text = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), eos_token="</s>", pad_token="</s>")
processor = L3ACProcessor(extractor, no_text, audio_tokenizer=codec)
llama = LlamaConfig(vocab_size=len(no_text), hidden_size=256, intermediate_size=704, num_hidden_layers=6)
lm = extend_causal_lm(LlamaForCausalLM(llama), processor)

clips = [[{"type": "audio", "audio": path}] for path in sorted(Path(folder).rglob("*.wav"))]
sequences = processor.encode(clips, truncation=True, max_length=1024)["input_ids"]  # 17 seconds of each clip
optimizer = torch.optim.AdamW(lm.parameters(), lr=1e-3)
for step in range(int(steps)):
    batch = processor.pad(random.choices(sequences, k=8), return_tensors="pt", output_labels=True)
    loss = lm(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"step {step}: {loss.item():.2f} nats per id")
lm.save_pretrained(target)
processor.save_pretrained(target)  # with the codec

inputs = processor.encode([{"type": "audio", "audio": prompt}], open_audio=True, return_tensors="pt")
only_audio = AudioLogitsProcessor(processor, "audio", min_ids=inputs["input_ids"].shape[1] + 60)
tokens = lm.generate(**inputs, logits_processor=[only_audio], max_new_tokens=100, do_sample=True, top_k=0)
soundfile.write(continued, processor.post_process_audio(tokens[0])[0], codec.config.sampling_rate)
