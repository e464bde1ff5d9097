"""Encode and decode a stream with ONNX Runtime and numpy, without torch.

l3ac export-onnx --model l3ac-1k-light --streaming -o onnx/       # once, where torch is installed
python examples/onnx_streaming.py onnx/ speech.wav decoded.wav
"""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, repeat, tee

import numpy as np
import onnxruntime
import soundfile

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def stream(path: str, pushes: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Samples to ids, or ids to samples: what each push of any size decides, then the rest."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.set_denormal_as_zero", "1")  # for speed
    session = onnxruntime.InferenceSession(path, options)
    codec = json.loads(session.get_modelmeta().custom_metadata_map["l3ac"])
    given, _, _, *states = session.get_inputs()
    state = {s.name: np.zeros(s.shape, TYPES[s.type]) for s in states}
    of_frame, out_of_frame = (1, codec["hop_length"]) if given.name == "ids" else (codec["hop_length"], 1)
    waiting = np.zeros(codec["lead"], TYPES[given.type])
    taken, made, position, end = 0, -codec["delay"], 0, 1 << 48  # the end is not known yet
    for push in chain(pushes, repeat(None)):
        if push is None:  # zeros push out what lies behind the end
            end = -(-taken // of_frame)
            if made >= end * out_of_frame:
                return
        taken += 0 if push is None else len(push)
        waiting = np.append(waiting, np.zeros(given.shape[1]) if push is None else push).astype(waiting.dtype)
        while len(waiting) >= given.shape[1]:
            now, waiting = np.split(waiting, [given.shape[1]])
            inputs = {given.name: now[None], "end": np.array([end]), "position": np.array([position])}
            out, *new = map(np.asarray, session.run(None, inputs | state))
            state = dict(zip(state, new, strict=True))
            yield out[0, max(0, -made) : end * out_of_frame - made]
            position, made = position + codec["frames"], made + out.shape[1]


folder, source, target = sys.argv[1:]
audio, rate = soundfile.read(source, dtype="float32", always_2d=True)
if rate != 16_000:
    sys.exit(f"{source} has {rate} Hz; resample it to 16000 Hz.")
microphone = np.split(audio.mean(axis=1), range(640, len(audio), 640))  # in pushes of 40 ms
ids, received = tee(stream(f"{folder}/streaming_encoder.onnx", microphone))
speech = np.concatenate(list(stream(f"{folder}/streaming_decoder.onnx", received)))[: len(audio)].clip(-1, 1)
print(f"{sum(map(len, ids))} ids of {len(speech) / rate:.2f} s, in pushes")
soundfile.write(target, speech, rate)
