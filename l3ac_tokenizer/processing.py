"""`L3ACProcessor`: text and audio in one token sequence for a language model, and back.

The vocabulary has the text tokens first, then one token for each id of the codec:

    0 … audio_offset − 1                              text, including `<|audio_start|>` and `<|audio_end|>`
    audio_offset … audio_offset + codebook_size − 1   ids

Audio tokens are a range without strings, so the files of the text tokenizer do not grow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from transformers import AddedToken
from transformers.processing_utils import ProcessorMixin
from transformers.utils import TensorType

from .quantization import check_ids

AUDIO_START = "<|audio_start|>"
AUDIO_END = "<|audio_end|>"

_AUDIO_MARKS = re.compile(re.escape(AUDIO_START) + r"(\d+)" + re.escape(AUDIO_END))
"""Placeholder of an audio part in the text that a chat template sees: its number in the conversation."""

Part = dict[str, Any]
"""`{"type": "text", "text": str}` or `{"type": "audio", "ids": integers (N,)}`, ids as in `audio_codes`."""

Piece = str | list[int]
"""A validated part: text, or audio tokens."""


class L3ACProcessor(ProcessorMixin):
    r"""Joins the feature extractor of a codec and the text tokenizer of a language model that reads its ids.

    ```python
    >>> processor = L3ACProcessor(AutoFeatureExtractor.from_pretrained("l3ac-1k"), tokenizer)
    >>> language_model.resize_token_embeddings(processor.vocab_size)
    >>> ids = codec.encode(**processor(audio=waveform, sampling_rate=16000, return_tensors="pt")).audio_codes[0, 0]
    >>> tokens = processor.encode_parts([{"type": "text", "text": "Hear: "}, {"type": "audio", "ids": ids}])
    >>> parts = processor.decode_parts(tokens)
    ```

    Called with `audio`, it returns the output of the feature extractor; called with `text`, that of the tokenizer.

    Args:
        feature_extractor ([`CodecFeatureExtractor`]): Feature extractor of the codec.
        tokenizer ([`PreTrainedTokenizerBase`]): Text tokenizer; the tokens `<|audio_start|>` and `<|audio_end|>` are
            added if it lacks them.
        codebook_size (`int`, *optional*, defaults to 117649): Codebook size of the codec, `model.config.codebook_size`.
        audio_offset (`int`, *optional*): Token of the id 0; by default the first one after the text tokens.
        chat_template (`str`, *optional*): Replaces the chat template of the tokenizer.

    Raises:
        TypeError: `feature_extractor` or `tokenizer` is of another class.
        ValueError: `codebook_size` is not positive, or the tokenizer has tokens beyond `audio_offset`.
    """

    def __init__(
        self,
        feature_extractor: Any,
        tokenizer: Any,
        codebook_size: int = 117_649,
        audio_offset: int | None = None,
        chat_template: str | None = None,
    ):
        super().__init__(feature_extractor, tokenizer, chat_template=chat_template)
        if codebook_size < 1:
            raise ValueError(f"`codebook_size` is {codebook_size}; give `config.codebook_size` of the codec.")
        tokenizer.add_tokens(
            [AddedToken(mark, special=True, normalized=False) for mark in (AUDIO_START, AUDIO_END)], special_tokens=True
        )
        self._text_size = max(tokenizer.get_vocab().values()) + 1
        self.audio_offset = self._text_size if audio_offset is None else audio_offset
        if self._text_size > self.audio_offset:
            raise ValueError(
                f"The tokenizer has {self._text_size} tokens, but the audio tokens begin at {self.audio_offset}: use "
                "the tokenizer that the processor was made with, or make a new processor and a new language model."
            )
        self.codebook_size = codebook_size
        self.audio_start_id, self.audio_end_id = tokenizer.convert_tokens_to_ids([AUDIO_START, AUDIO_END])

    @property
    def vocab_size(self) -> int:
        """Number of text and audio tokens: the rows of the language model's embedding."""
        return self.audio_offset + self.codebook_size

    def encode_parts(self, parts: Iterable[Part]) -> list[int]:
        """Encode parts of text and audio as one token sequence, without any further special tokens.

        Adjacent texts are tokenized as one.

        Args:
            parts: `{"type": "text", "text": …}` and `{"type": "audio", "ids": …}` in any order; see `Part`.

        Raises:
            ValueError: A part is neither text nor audio, ids are out of range, or a text contains `<|audio_start|>`
                or `<|audio_end|>`.
        """
        return self._join([self._piece(part, f"part {index}") for index, part in enumerate(parts)])

    def decode_parts(self, tokens: Sequence[int]) -> list[Part]:
        """Decode a token sequence to its parts of text and audio; the inverse of `encode_parts`.

        The parts are equal to those given to `encode_parts`, with adjacent texts joined, empty texts dropped and ids as
        lists, provided that the tokenizer's decoding inverts its encoding, as it does for byte-level tokenizers (GPT-2,
        Llama 3, Qwen). A final audio part without `<|audio_end|>`, as after interrupted generation, is returned as it
        is. Remove padding first: it would be decoded as text.

        Args:
            tokens: Integers (N,): a list, array or tensor.

        Raises:
            ValueError: A token is out of range, an audio token is outside of an audio part, or a text token inside one.
        """
        parts: list[Part] = []
        text: list[int] = []
        ids: list[int] | None = None  # of the current audio part
        for position, token in enumerate(np.asarray(tokens).tolist()):
            is_audio = self.audio_offset <= token < self.vocab_size
            if not is_audio and not 0 <= token < self._text_size:
                raise ValueError(
                    f"Token {position} is {token}; text tokens are 0 to {self._text_size - 1}, audio tokens are "
                    f"{self.audio_offset} to {self.vocab_size - 1}."
                )
            if ids is None and (is_audio or token == self.audio_end_id):
                raise ValueError(f"Token {position} is the audio token {token}, without {AUDIO_START} before it.")
            if ids is not None and not is_audio and token != self.audio_end_id:
                raise ValueError(f"Token {position} is the text token {token}, without {AUDIO_END} before it.")
            if ids is None and token == self.audio_start_id:
                parts += self._decode_text(text)
                text, ids = [], []
            elif ids is None:
                text.append(token)
            elif is_audio:
                ids.append(token - self.audio_offset)
            else:
                parts.append({"type": "audio", "ids": ids})
                ids = None
        return parts + (self._decode_text(text) if ids is None else [{"type": "audio", "ids": ids}])

    def apply_chat_template(  # type: ignore[override]  # audio is given as ids
        self,
        conversation: list[dict[str, Any]] | list[list[dict[str, Any]]],
        chat_template: str | None = None,
        *,
        tokenize: bool = False,
        padding: bool | str = False,
        return_tensors: str | TensorType | None = None,
        return_dict: bool = False,
        **template_kwargs: Any,
    ) -> Any:
        """Encode a chat, or each chat of a batch, as one token sequence.

        ```python
        >>> chat = [{"role": "user", "content": [{"type": "text", "text": "Go on: "}, {"type": "audio", "ids": ids}]}]
        >>> inputs = processor.apply_chat_template(
        ...     chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ... )
        ```

        Any template that writes the text of the messages works; audio parts keep their positions in the text.
        `decode_parts` returns the text that the template wrote, and the ids.

        Args:
            conversation: Messages whose `content` is a string or a list of parts as in `encode_parts`.
            chat_template: Replaces the template of the processor and the tokenizer.
            tokenize: False returns the text, with numbered placeholders for audio.
            padding: Padding of a batch, as in tokenizers.
            return_tensors: `"pt"` or `"np"`; None: lists.
            return_dict: Return `input_ids` and `attention_mask` instead of the former alone.
            template_kwargs: Arguments of the tokenizer's method, e.g. `add_generation_prompt`.

        Raises:
            ValueError: As in `encode_parts`, or the template drops or repeats an audio part.
        """
        is_batch = bool(conversation) and isinstance(conversation[0], list)
        chats: list[Any] = conversation if is_batch else [conversation]
        template = chat_template or self.chat_template
        rendered, rows = [], []
        for chat in chats:
            messages, audio = self._with_marks(chat)
            text = self.tokenizer.apply_chat_template(
                messages, chat_template=template, tokenize=False, **template_kwargs
            )
            rendered.append(text)
            rows.append(self._join(_with_audio(text, audio)))
        if not tokenize:
            return rendered if is_batch else rendered[0]
        batch = self.tokenizer.pad({"input_ids": rows}, padding=padding, return_tensors=return_tensors)
        if not is_batch and return_tensors is None:
            batch = type(batch)({name: values[0] for name, values in batch.items()})
        return batch if return_dict else batch["input_ids"]

    def _piece(self, part: Part, name: str) -> Piece:
        """Validate a part and return its text or its audio tokens; errors call it `name`."""
        kind = part.get("type")
        if kind == "text":
            for mark in (AUDIO_START, AUDIO_END):
                if mark in part["text"]:
                    raise ValueError(f"The text of {name} contains {mark}, which is reserved for audio: remove it.")
            return part["text"]
        if kind != "audio":
            raise ValueError(f"The type of {name} is {kind!r}; it must be 'text' or 'audio'.")
        if "ids" not in part:
            raise ValueError(f"The audio of {name} lacks `ids`: encode the waveform with the codec first.")
        ids = np.asarray(part["ids"])
        if ids.ndim != 1:
            raise ValueError(f"The ids of {name} have shape {ids.shape}; give those of one clip, (num_ids,).")
        if ids.size == 0:
            return []
        check_ids(ids, self.codebook_size, f"`ids` of {name}")
        return (ids.astype(np.int64) + self.audio_offset).tolist()

    def _join(self, pieces: list[Piece]) -> list[int]:
        """Join texts and audio tokens to one token sequence; adjacent texts are tokenized as one."""
        tokens: list[int] = []
        text = ""
        for piece in pieces:
            if isinstance(piece, str):
                text += piece
                continue
            tokens += [*self._encode_text(text), self.audio_start_id, *piece, self.audio_end_id]
            text = ""
        return tokens + self._encode_text(text)

    def _with_marks(self, chat: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Piece]]:
        """Replace the audio parts of messages by placeholders; returns the messages, and the audio tokens in order."""
        audio: list[Piece] = []
        messages = []
        for number, message in enumerate(chat):
            content = message.get("content")
            if content is None:  # e.g. a tool call
                messages.append(message)
                continue
            written = ""
            for index, part in enumerate([{"type": "text", "text": content}] if isinstance(content, str) else content):
                piece = self._piece(part, f"part {index} of message {number}")
                if isinstance(piece, str):
                    written += piece
                else:
                    written += f"{AUDIO_START}{len(audio)}{AUDIO_END}"
                    audio.append(piece)
            messages.append({**message, "content": written})
        return messages, audio

    def _encode_text(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False) if text else []

    def _decode_text(self, tokens: list[int]) -> list[Part]:
        if not tokens:
            return []
        text = self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return [{"type": "text", "text": text}]


def _with_audio(text: str, audio: list[Piece]) -> list[Piece]:
    """Replace the placeholders in the output of a template by audio tokens."""
    first, *rest = _AUDIO_MARKS.split(text)  # text, number, text, number, …, text
    numbers = [int(number) for number in rest[::2]]
    if sorted(numbers) != list(range(len(audio))):
        raise ValueError(
            f"The chat template wrote the audio parts {numbers} of {len(audio)}, but must write each of them once: use "
            "a template that writes the content of every message."
        )
    pieces: list[Piece] = [first]
    for number, following in zip(numbers, rest[1::2], strict=True):
        pieces += [audio[number], following]
    return pieces


__all__ = ["AUDIO_END", "AUDIO_START", "L3ACProcessor"]
