"""`L3ACProcessor`: text and audio in one sequence of tokens for a language model, and back.

The tokens of the text come first, then one token for each id of the codec:

    0 … audio_offset − 1                              text, with `<|audio_start|>` and `<|audio_end|>` among it
    audio_offset … audio_offset + codebook_size − 1   ids

A range needs no strings: the tokenizer's files stay those of the text.
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
"""What stands for an audio part in the text that a chat template sees: its number in the conversation."""

Part = dict[str, Any]
"""`{"type": "text", "text": str}` or `{"type": "audio", "ids": whole numbers (N,)}`, the ids of `audio_codes`."""

Piece = str | list[int]
"""A checked part: text, or audio tokens."""


class L3ACProcessor(ProcessorMixin):
    r"""A feature extractor for the codec and a text tokenizer for the language model that reads its ids.

    ```python
    >>> processor = L3ACProcessor(AutoFeatureExtractor.from_pretrained("l3ac-1k"), tokenizer)
    >>> language_model.resize_token_embeddings(processor.vocab_size)
    >>> ids = codec.encode(**processor(audio=waveform, sampling_rate=16000, return_tensors="pt")).audio_codes[0, 0]
    >>> tokens = processor.encode_parts([{"type": "text", "text": "Hear: "}, {"type": "audio", "ids": ids}])
    >>> parts = processor.decode_parts(tokens)
    ```

    Calling it with `audio` gives the feature extractor's output, with `text` the tokenizer's.

    Args:
        feature_extractor ([`CodecFeatureExtractor`]): For the codec.
        tokenizer ([`PreTrainedTokenizerBase`]): For the text; gets the tokens `<|audio_start|>` and `<|audio_end|>`
            where it has none.
        codebook_size (`int`, *optional*, defaults to 117649): Ids of the codec, `model.config.codebook_size`.
        audio_offset (`int`, *optional*): Token of the id 0; by default the first one after the tokenizer's.
        chat_template (`str`, *optional*): Replaces the tokenizer's.

    Raises:
        TypeError: One of the two is of another class.
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
            raise ValueError(f"`codebook_size` is {codebook_size}; it must be that of the codec's configuration.")
        tokenizer.add_tokens(
            [AddedToken(mark, special=True, normalized=False) for mark in (AUDIO_START, AUDIO_END)], special_tokens=True
        )
        self._text_size = max(tokenizer.get_vocab().values()) + 1
        self.audio_offset = self._text_size if audio_offset is None else audio_offset
        if self._text_size > self.audio_offset:
            raise ValueError(
                f"The tokenizer has {self._text_size} tokens and the audio tokens begin at {self.audio_offset}: "
                "use the tokenizer that the processor was made with, or make a new processor and a new model."
            )
        self.codebook_size = codebook_size
        self.audio_start_id, self.audio_end_id = tokenizer.convert_tokens_to_ids([AUDIO_START, AUDIO_END])

    @property
    def vocab_size(self) -> int:
        """Tokens of text and audio together: rows of the language model's embedding."""
        return self.audio_offset + self.codebook_size

    def encode_parts(self, parts: Iterable[Part]) -> list[int]:
        """Parts of text and audio to one sequence of tokens; nothing but the parts is in it.

        Neighbouring texts are tokenized as one.

        Args:
            parts: `{"type": "text", "text": …}` and `{"type": "audio", "ids": …}` in any order; see `Part`.

        Raises:
            ValueError: A part of another kind, ids out of range, or a text that holds `<|audio_start|>` or
                `<|audio_end|>`.
        """
        return self._join([self._piece(part, f"part {index}") for index, part in enumerate(parts)])

    def decode_parts(self, tokens: Sequence[int]) -> list[Part]:
        """A sequence of tokens to its parts of text and audio, the inverse of `encode_parts`.

        Gives back what `encode_parts` was given, with neighbouring texts joined, empty ones left out, and ids as
        lists, if the tokenizer's own decoding inverts its encoding, as that of byte-level ones (GPT-2, Llama 3,
        Qwen) does. An audio part that is open at the end, as where generation stopped, is taken as it is. Leave out
        padding: it would be text.

        Args:
            tokens: Whole numbers (N,), a list, array or tensor.

        Raises:
            ValueError: A token is out of range, ids stand outside of an audio part, or another token inside.
        """
        parts: list[Part] = []
        text: list[int] = []
        ids: list[int] | None = None  # of the audio part that is open
        for position, token in enumerate(np.asarray(tokens).tolist()):
            is_audio = self.audio_offset <= token < self.vocab_size
            if not is_audio and not 0 <= token < self._text_size:
                raise ValueError(
                    f"Token {position} is {token}; those of text are 0 to {self._text_size - 1}, those of audio "
                    f"{self.audio_offset} to {self.vocab_size - 1}."
                )
            if ids is None and (is_audio or token == self.audio_end_id):
                raise ValueError(f"Token {position} is {token}, of audio, and no {AUDIO_START} stands before it.")
            if ids is not None and not is_audio and token != self.audio_end_id:
                raise ValueError(f"Token {position} is {token}, of text, and no {AUDIO_END} stands before it.")
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
        """A chat, or a batch of them, to one sequence of tokens each.

        ```python
        >>> chat = [{"role": "user", "content": [{"type": "text", "text": "Go on: "}, {"type": "audio", "ids": ids}]}]
        >>> inputs = processor.apply_chat_template(
        ...     chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ... )
        ```

        Any template that writes the text of messages does; each audio part goes where its place in the text is.
        `decode_parts` gives back the text that the template wrote, and the ids.

        Args:
            conversation: Messages whose `content` is a string or a list of parts as `encode_parts` takes.
            chat_template: Instead of the processor's and the tokenizer's.
            tokenize: False gives the text, with numbers in the place of audio.
            padding: As in tokenizers, for a batch.
            return_tensors: `"pt"` or `"np"`.
            return_dict: `input_ids` and `attention_mask` instead of the former alone.
            template_kwargs: What the tokenizer's method takes, e.g. `add_generation_prompt`.

        Raises:
            ValueError: As `encode_parts`, or a template that loses or repeats an audio part.
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
        """A checked part as its text or its audio tokens; `name` says in errors which one it is."""
        kind = part.get("type")
        if kind == "text":
            for mark in (AUDIO_START, AUDIO_END):
                if mark in part["text"]:
                    raise ValueError(f"The text of {name} holds {mark}, which stands for audio alone: take it out.")
            return part["text"]
        if kind != "audio":
            raise ValueError(f"The type of {name} is {kind!r}; it must be 'text' or 'audio'.")
        if "ids" not in part:
            raise ValueError(f"The audio of {name} has no `ids`: encode the waveform with the codec first.")
        ids = np.asarray(part["ids"])
        if ids.ndim != 1:
            raise ValueError(f"The ids of {name} have the shape {ids.shape}; give those of one clip, (num_ids,).")
        if ids.size == 0:
            return []
        check_ids(ids, self.codebook_size, f"`ids` of {name}")
        return (ids.astype(np.int64) + self.audio_offset).tolist()

    def _join(self, pieces: list[Piece]) -> list[int]:
        """Texts and audio tokens to one sequence; neighbouring texts are tokenized as one."""
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
        """Messages with plain strings that hold a mark for each audio part, and the audio tokens in order."""
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
    """What a template wrote, with audio tokens in the place of its marks."""
    first, *rest = _AUDIO_MARKS.split(text)  # text, number, text, number, …, text
    numbers = [int(number) for number in rest[::2]]
    if sorted(numbers) != list(range(len(audio))):
        raise ValueError(
            f"The chat template wrote the audio parts {numbers} and the chat has {len(audio)}, each to be written "
            "once: use a template that writes the content of every message."
        )
    pieces: list[Piece] = [first]
    for number, following in zip(numbers, rest[1::2], strict=True):
        pieces += [audio[number], following]
    return pieces


__all__ = ["AUDIO_END", "AUDIO_START", "L3ACProcessor"]
