"""A language model speaks: its ids become sound while `generate` still runs.

    python examples/generate.py SPEECH_LM prompt.wav spoken.wav

SPEECH_LM is a folder that examples/speech_lm.py or examples/extend_lm.py has written.
"""

import sys
from threading import Thread

import soundfile
from transformers import AutoModelForCausalLM, AutoProcessor

from l3ac_tokenizer import AudioLogitsProcessor, AudioStreamer

folder, prompt, target = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder)
lm = AutoModelForCausalLM.from_pretrained(folder)
codec = processor.audio_tokenizer

inputs = processor.encode([{"type": "audio", "audio": prompt}], open_audio=True, return_tensors="pt")
streamer = AudioStreamer(codec, processor, skip_prompt=True)
only_audio = AudioLogitsProcessor(processor, "audio", min_ids=inputs["input_ids"].shape[1] + 60)
options = {"logits_processor": [only_audio], "max_new_tokens": 100, "do_sample": True, "top_k": 0}
Thread(target=lm.generate, kwargs={**inputs, **options, "streamer": streamer}).start()

with soundfile.SoundFile(target, "w", codec.config.sampling_rate, channels=1) as file:
    for samples in streamer:  # (n,), as soon as the ids are there
        file.write(samples)
        print(f"{file.tell() / file.samplerate:.2f} s")
