"""Generation of ids by a language model: logits kept to legal tokens, and sound while `generate` runs.

Axes: B sequences, N tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from queue import Queue
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LogitsProcessor
from transformers.generation.streamers import BaseStreamer

from .streaming import StreamingDecoder

if TYPE_CHECKING:
    from .modeling import CodecModel
    from .processing import L3ACProcessor

MODES = ("audio", "text", "both")


class AudioLogitsProcessor(LogitsProcessor):
    """Keeps `generate` to sequences that `decode_parts` reads: ids between `<|audio_start|>` and `<|audio_end|>` only.

    ```python
    >>> only_audio = AudioLogitsProcessor(processor, "audio")
    >>> tokens = language_model.generate(**prompt, logits_processor=[only_audio], max_new_tokens=200)
    ```

    Args:
        processor: The processor that made the prompt.
        mode: `"audio"` allows audio parts alone and, between them, the tokenizer's end of sequence; `"text"` text
            alone; `"both"` allows both. Audio that the prompt has left open is continued, or with `"text"` closed.
        min_ids: Least number of ids of an audio part, with those that a prompt has in it.
        max_ids: Largest number, after which the part is closed; None: no limit.

    Raises:
        ValueError: `mode` is unknown, or the numbers contradict each other or have no effect.
    """

    def __init__(self, processor: L3ACProcessor, mode: str = "both", min_ids: int = 0, max_ids: int | None = None):
        if mode not in MODES:
            raise ValueError(f"`mode` is {mode!r}; it must be one of {', '.join(MODES)}.")
        if mode == "text" and (min_ids or max_ids is not None):
            raise ValueError("`min_ids` and `max_ids` have no effect with `mode='text'`: leave them out.")
        if min_ids < 0 or (max_ids is not None and max_ids < max(min_ids, 1)):
            raise ValueError(
                f"`min_ids` is {min_ids} and `max_ids` is {max_ids}; give 0 ≤ min_ids ≤ max_ids, and 1 ≤ max_ids."
            )
        self.vocabulary = processor.vocabulary
        self.mode = mode
        self.min_ids = min_ids
        self.max_ids = 0 if mode == "text" else max_ids

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Tokens (B, N) and logits (B, V) → logits (B, V), −∞ for tokens that cannot follow.

        Raises:
            ValueError: The language model has fewer logits than the processor has tokens.
        """
        vocabulary = self.vocabulary
        if scores.shape[-1] < vocabulary.size:
            raise ValueError(
                f"The language model has {scores.shape[-1]} logits and the processor {vocabulary.size} tokens: make it "
                "with `extend_causal_lm(language_model, processor)`."
            )
        is_open, count = self._state(input_ids)
        is_closed = ~is_open
        legal = torch.zeros_like(scores, dtype=torch.bool)
        goes_on = is_open if self.max_ids is None else is_open & (count < self.max_ids)
        legal[:, vocabulary.audio_offset : vocabulary.size] = goes_on[:, None]
        if self.mode == "audio":
            end = vocabulary.tokenizer.eos_token_id
            if end is not None:
                legal[:, end] = is_closed
        else:
            legal[:, : min(vocabulary.text_size, vocabulary.audio_offset)] = is_closed[:, None]
        legal[:, vocabulary.audio_start_id] = is_closed & (self.mode != "text")
        legal[:, vocabulary.audio_end_id] = is_open & (count >= self.min_ids)
        return scores.masked_fill(~legal, -math.inf)

    def _state(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, N) → whether each sequence ends inside audio (B,), and the ids of that part so far (B,)."""
        tokens = F.pad(tokens, (1, 0), value=-1)  # a sequence may be empty
        places = torch.arange(tokens.shape[1], device=tokens.device)
        last = places.where(~self.vocabulary.is_id(tokens), -1).amax(dim=1)  # the last token that is not an id
        count = tokens.shape[1] - 1 - last
        before = tokens.gather(1, last[:, None])[:, 0]
        return (before == self.vocabulary.audio_start_id) | (count > 0), count


class AudioStreamer(BaseStreamer):
    """Streamer that decodes ids to sound while `generate` runs, for an iterator in another thread.

    ```python
    >>> streamer = AudioStreamer(codec, processor)
    >>> Thread(target=language_model.generate, kwargs={**prompt, "streamer": streamer}).start()
    >>> for samples in streamer:  # (n,) float32 at the codec's sampling rate
    ...     loudspeaker.write(samples)
    ```

    Together, the waveforms of a part are those of `decode_audio(ids, time_norm="frozen")`, up to rounding; parts follow
    each other. Text is left out; in a prompt that ends inside audio, the ids are the context of those to come. As with
    `TextIteratorStreamer`, give a `timeout` if `generate` may fail.

    Args:
        model: The codec, with calibrated time normalization.
        processor: The processor that made the prompt.
        skip_prompt: Leave out the sound of the prompt.
        timeout: Seconds to wait for the next waveform before `queue.Empty` is raised; None: any time.

    Raises:
        ValueError: The codec has no statistics for frozen time normalization, or another number of ids.
    """

    def __init__(
        self, model: CodecModel, processor: L3ACProcessor, skip_prompt: bool = False, timeout: float | None = None
    ):
        size = math.prod(model.config.frame_levels)
        if size != processor.codebook_size:
            raise ValueError(
                f"The codec has {size} ids and the processor {processor.codebook_size}: give the processor's codec."
            )
        self.skip_prompt = skip_prompt
        self.timeout = timeout
        self._decoder = StreamingDecoder(model)
        self._hop: int = model.config.hop_length
        self._vocabulary = processor.vocabulary
        self._queue: Queue[np.ndarray | None] = Queue()
        self._is_prompt = True
        self._skipped = 0
        """Samples still to come that belong to the prompt."""

    def put(self, value: Tensor) -> None:
        """Take the tokens (1, N) of the prompt, or the next tokens (1,); `generate` calls this.

        Raises:
            ValueError: There are several sequences.
        """
        if value.ndim > 1 and len(value) > 1:
            raise ValueError(f"`AudioStreamer` takes one sequence and got {len(value)}: generate with a batch of 1.")
        skips = self._is_prompt and self.skip_prompt
        self._is_prompt = False
        ids: list[int] = []
        for token in value.reshape(-1).tolist():
            if self._vocabulary.is_id(token):
                ids.append(token - self._vocabulary.audio_offset)
            else:
                self._push(ids, skips)
                self._close()
                ids = []
        self._push(ids, skips)

    def end(self) -> None:
        """End the last waveform and the iteration; `generate` calls this."""
        self._close()
        self._queue.put(None)
        self._is_prompt = True

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        samples = self._queue.get(timeout=self.timeout)
        if samples is None:
            raise StopIteration
        return samples

    def _push(self, ids: list[int], skips: bool) -> None:
        if ids:
            self._skipped += len(ids) * self._hop * skips
            self._send(self._decoder.push(torch.tensor([ids]))[0])

    def _close(self) -> None:
        """End the current waveform, if there is one."""
        self._send(self._decoder.flush()[0])

    def _send(self, samples: Tensor) -> None:
        skipped = min(self._skipped, len(samples))
        self._skipped -= skipped
        if skipped < len(samples):
            self._queue.put(samples[skipped:].float().cpu().numpy())


__all__ = ["AudioLogitsProcessor", "AudioStreamer"]
