"""Continue a clip by a language model on ids that vLLM serves, decoded while the ids arrive.

vllm serve lm --skip-tokenizer-init     # tokens: 0 and 1 begin and end audio, ids follow from 2 on
python examples/vllm_stream.py http://127.0.0.1:8000 lm clip.wav continued.wav
"""

import json
import sys
import urllib.request
from collections.abc import Iterator

import numpy as np
import soundfile
from transformers import AutoModel

from l3ac_tokenizer import StreamingDecoder, encode_clips, read_audio

START, END, OFFSET = 0, 1, 2
server, model, source, target = sys.argv[1:]


def drawn(ids: np.ndarray, count: int = 240) -> Iterator[np.ndarray]:
    """Ids (n,) that continue `ids`, as they come."""
    body = {"model": model, "prompt": [START, *(OFFSET + ids).tolist()], "max_tokens": count, "stream": True}
    body |= {"return_token_ids": True, "temperature": 0.9, "stop_token_ids": [END], "logit_bias": {START: -100}}
    url, header = f"{server}/v1/completions", {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), header)) as lines:
        for line in lines:
            if line.startswith(b"data: {"):
                tokens = np.array(json.loads(line[6:])["choices"][0]["token_ids"], dtype=np.int64)
                yield tokens[tokens != END] - OFFSET


codec = AutoModel.from_pretrained("l3ac-1k-light").eval()
decoder, rate = StreamingDecoder(codec), codec.config.sampling_rate
(ids,) = encode_clips(codec, [read_audio(source, rate)[0]])
with soundfile.SoundFile(target, "w", rate, 1) as file:
    for new in (ids, *drawn(ids)):
        file.write(decoder.push(new)[0].numpy())
    file.write(decoder.flush()[0].numpy())
