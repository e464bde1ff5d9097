"""Encode and decode a stream with ONNX Runtime and numpy, without torch.

l3ac export-onnx --model l3ac-1k-light --streaming -o onnx/       # once, where torch is installed
python examples/onnx_streaming.py onnx/ speech.wav decoded.wav
"""

import json
import sys
from collections.abc import Iterator

import numpy as np
import onnxruntime
import soundfile

OPTIONS = onnxruntime.SessionOptions()
OPTIONS.intra_op_num_threads = 1
OPTIONS.add_session_config_entry("session.set_denormal_as_zero", "1")  # for speed
UNKNOWN = 1 << 48
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


class Stream:
    """One direction of the codec: samples to ids, or ids to samples."""

    def __init__(self, path: str):
        self.session = onnxruntime.InferenceSession(path, OPTIONS)
        self.codec = json.loads(self.session.get_modelmeta().custom_metadata_map["l3ac"])
        values, _, _, *states = self.session.get_inputs()
        self.name, self.size = values.name, values.shape[1]
        self.waiting = np.zeros(self.codec["lead"], TYPES[values.type])
        self.state = {state.name: np.zeros(state.shape, TYPES[state.type]) for state in states}
        self.nothing = np.zeros(0, TYPES[self.session.get_outputs()[0].type])
        self.position, self.taken, self.given = 0, 0, -self.codec["delay"]

    def push(self, values: np.ndarray, end: int = UNKNOWN) -> np.ndarray:
        """What the next values decide; `end` is the number of frames of the clip."""
        self.waiting = np.concatenate([self.waiting, values.astype(self.waiting.dtype)])
        self.taken += len(values)
        return np.concatenate([self.nothing, *self.steps(end)])

    def steps(self, end: int) -> Iterator[np.ndarray]:
        """The output of each step for which the input is there."""
        while len(self.waiting) >= self.size:
            now, self.waiting = self.waiting[: self.size], self.waiting[self.size :]
            inputs = {self.name: now[None], "end": np.array([end]), "position": np.array([self.position])}
            out, *state = map(np.asarray, self.session.run(None, inputs | self.state))
            self.state = dict(zip(self.state, state, strict=True))
            self.position += self.codec["frames"]
            self.given += out.shape[1]
            yield out[0, max(0, out.shape[1] - max(0, self.given)) :]  # without what lies before the clip

    def flush(self) -> np.ndarray:
        """The rest of the clip, which ends here."""
        hop, decodes = self.codec["hop_length"], self.name == "ids"
        frames = self.taken if decodes else -(-self.taken // hop)
        rest = frames * (hop if decodes else 1) - max(0, self.given)
        out = self.nothing
        while len(out) < rest:  # zeros push out what lies behind the end
            out = np.concatenate([out, self.push(np.zeros(self.size), frames)])
        return out[:rest]


folder, source, target = sys.argv[1:]
encoder, decoder = Stream(f"{folder}/streaming_encoder.onnx"), Stream(f"{folder}/streaming_decoder.onnx")

audio, rate = soundfile.read(source, dtype="float32", always_2d=True)
if rate != encoder.codec["sampling_rate"]:
    sys.exit(f"{source} has {rate} Hz; resample it to {encoder.codec['sampling_rate']} Hz.")
mono = audio.mean(axis=1)

ids, sound = [], []
for block in [*np.split(mono, range(640, len(mono), 640)), None]:  # as from a microphone; None: the clip ends
    ids.append(encoder.flush() if block is None else encoder.push(block))
    sound.append(decoder.push(ids[-1]))
sound.append(decoder.flush())
speech = np.concatenate(sound)[: len(mono)].clip(-1, 1)
print(f"{sum(map(len, ids))} ids of {len(mono) / rate:.2f} s, in pushes")
soundfile.write(target, speech, rate)
