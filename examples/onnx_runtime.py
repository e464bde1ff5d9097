"""Encode and decode with ONNX Runtime and numpy, without torch.

l3ac export-onnx --model l3ac-1k-light -o onnx/                   # once, where torch is installed
python examples/onnx_runtime.py onnx/ speech.wav decoded.wav
"""

import json
import sys

import numpy as np
import onnxruntime
import soundfile

folder, source, target = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.add_session_config_entry("session.set_denormal_as_zero", "1")  # for speed
encoder = onnxruntime.InferenceSession(f"{folder}/encoder.onnx", options)
decoder = onnxruntime.InferenceSession(f"{folder}/decoder.onnx", options)
codec = json.loads(encoder.get_modelmeta().custom_metadata_map["l3ac"])

audio, rate = soundfile.read(source, dtype="float32", always_2d=True)
if rate != codec["sampling_rate"]:
    sys.exit(f"{source} has {rate} Hz; resample it to {codec['sampling_rate']} Hz.")
mono = audio.mean(axis=1)

(ids,) = map(np.asarray, encoder.run(None, {"input_values": mono[np.newaxis, np.newaxis]}))  # (batch, codebooks, ids)
(decoded,) = map(np.asarray, decoder.run(None, {"audio_codes": ids}))  # (batch, 1, samples), whole frames
speech = decoded.ravel()[: len(mono)].clip(-1, 1)

print(f"{ids.size} ids of {len(mono) / rate:.2f} s by the weights {codec['weights_digest'][:12]}…")
soundfile.write(target, speech, rate)
