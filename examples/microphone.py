"""A microphone to ids while it is spoken into, and at the end back to sound.

    python examples/microphone.py 5

Needs `pip install sounddevice`; the argument is the number of seconds.
"""

import sys
from typing import Any

import torch

from l3ac_tokenizer import CodecModel, StreamingDecoder, StreamingEncoder


def main(seconds: str = "5", name: str = "l3ac-1k-light") -> None:
    """Print the ids of a microphone, and play what they decode to."""
    import sounddevice

    model = CodecModel.from_pretrained(name)
    encoder, decoder = StreamingEncoder(model), StreamingDecoder(model)
    rate, heard = model.config.sampling_rate, []

    def callback(samples: Any, frames: int, time: Any, status: Any) -> None:
        if status:
            print(status, file=sys.stderr)
        (ids,) = encoder.push(samples)  # (frames, 1) int16
        heard.extend(decoder.push(ids))
        print(*ids.tolist(), flush=True)

    with sounddevice.InputStream(rate, blocksize=rate // 10, channels=1, dtype="int16", callback=callback):
        sounddevice.sleep(round(1000 * float(seconds)))
    (ids,) = encoder.flush()
    print(*ids.tolist())
    heard += [*decoder.push(ids), *decoder.flush()]
    sounddevice.play(torch.cat(heard).numpy(), rate, blocking=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
