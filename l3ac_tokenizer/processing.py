"""`L3ACProcessor`: text and audio in one token sequence for a language model, and back.

The vocabulary has the text tokens first, then one token for each id of the codec:

    0 … audio_offset − 1                              text, including `<|audio_start|>` and `<|audio_end|>`
    audio_offset … audio_offset + codebook_size − 1   ids

Audio tokens are a range without strings, so the files of the text tokenizer do not grow.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from transformers import AddedToken, BatchFeature
from transformers.processing_utils import ProcessorMixin
from transformers.tokenization_utils_base import LARGE_INTEGER
from transformers.utils import TensorType
from transformers.utils.chat_template_utils import _get_template_variables

from .checks import as_ids
from .quantization import check_ids

AUDIO_START = "<|audio_start|>"
AUDIO_END = "<|audio_end|>"

_AUDIO_MARKS = re.compile(re.escape(AUDIO_START) + r"(\d+)" + re.escape(AUDIO_END))
"""Placeholder of an audio part in the text that a chat template sees: its number in the conversation."""

RENDERING_ARGUMENTS = {
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "sanitize_control_tokens",
}
"""Arguments of the tokenizer's `apply_chat_template` that change the text."""

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
        self._sizes = (-1, 0)
        self.audio_offset = self._text_size if audio_offset is None else audio_offset
        self._check_text_size()
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
        text_size = min(self._text_size, self.audio_offset)
        sequence = as_ids(tokens, "`tokens`")
        if sequence.ndim != 1:
            raise ValueError(f"`tokens` has shape {tuple(sequence.shape)}; give one sequence, (num_tokens,).")
        for position, token in enumerate(sequence.tolist()):
            is_audio = self.audio_offset <= token < self.vocab_size
            if not is_audio and not 0 <= token < text_size:
                raise ValueError(
                    f"Token {position} is {token}; text tokens are 0 to {text_size - 1}, audio tokens are "
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

    def __call__(self, *, text: Any = None, audio: Any = None, **kwargs: Any) -> BatchFeature:
        """Tokenize text, or prepare audio for the codec.

        Args:
            text: Text, or a list of texts, for the tokenizer.
            audio: Waveform, or a list of waveforms, for the feature extractor.
            kwargs: Arguments of the tokenizer and of the feature extractor.

        Raises:
            TypeError: An argument is unknown.
            ValueError: Neither is given, a text has a token in the range of audio, or see the feature extractor.
        """
        if text is None and audio is None:
            raise ValueError("Neither `text` nor `audio` is given; give one of them.")
        known = {*_parameters(self.tokenizer.__call__), *_parameters(self.feature_extractor.__call__)}
        known |= {"text_kwargs", "audio_kwargs", "common_kwargs"}
        if unknown := sorted(kwargs.keys() - known):
            raise TypeError(
                f"The processor does not take `{unknown[0]}`: neither tokenizer nor feature extractor does."
            )
        output = super().__call__(text=text, audio=audio, **kwargs)
        if "input_ids" in output:
            self._check_text_tokens(output["input_ids"])
        return output

    def decode(self, token_ids: Any, **kwargs: Any) -> Any:
        """Decode text tokens as the tokenizer does; `decode_parts` decodes sequences with audio.

        Raises:
            ValueError: A token is that of an id.
        """
        self._check_no_audio(token_ids)
        return self.tokenizer.decode(token_ids, **kwargs)

    def batch_decode(self, sequences: Any, **kwargs: Any) -> list[str]:
        """Decode sequences of text tokens as the tokenizer does; `decode_parts` decodes sequences with audio.

        Raises:
            ValueError: A token is that of an id.
        """
        self._check_no_audio(sequences)
        return self.tokenizer.batch_decode(sequences, **kwargs)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Write the processor to a folder.

        Raises:
            ValueError: The tokenizer has grown into the range of audio, so that the folder could not be loaded.
        """
        self._check_text_size()
        return super().save_pretrained(save_directory, **kwargs)

    def apply_chat_template(  # type: ignore[override]  # audio is given as ids
        self,
        conversation: list[dict[str, Any]] | list[list[dict[str, Any]]],
        chat_template: str | None = None,
        *,
        tokenize: bool = False,
        padding: bool | str = False,
        padding_side: str | None = None,
        pad_to_multiple_of: int | None = None,
        truncation: bool | str = False,
        max_length: int | None = None,
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
            padding: Padding of a batch, as in tokenizers: True or `"longest"`, `"max_length"`, or False.
            padding_side: `"left"` or `"right"`; None: as the tokenizer.
            pad_to_multiple_of: Pad to a multiple of this length.
            truncation: Truncate to `max_length` tokens, at the tokenizer's `truncation_side`.
            max_length: Length for `truncation` and `padding="max_length"`; None: the tokenizer's `model_max_length`.
            return_tensors: `"pt"` or `"np"`; None: lists.
            return_dict: Return `input_ids` and `attention_mask` instead of the former alone.
            template_kwargs: `add_generation_prompt`, `continue_final_message`, `tools` and `documents` of the
                tokenizer's method, and variables of the template.

        Raises:
            TypeError: An argument is neither of these nor a variable of the template.
            ValueError: As in `encode_parts`; the template drops or repeats an audio part; an argument has no effect,
                e.g. `padding` without `tokenize=True`; or there are no chats.
        """
        is_batch = bool(conversation) and isinstance(conversation[0], list)
        chats: list[Any] = conversation if is_batch else [conversation]
        if not conversation:
            raise ValueError("There are no messages; give at least one.")
        template = chat_template or self.chat_template
        self._check_template_arguments(template, template_kwargs)
        of_tokens = {
            "padding": padding not in (False, "do_not_pad"),
            "truncation": truncation not in (False, "do_not_truncate"),
            "max_length": max_length is not None,
            "padding_side": padding_side is not None,
            "pad_to_multiple_of": pad_to_multiple_of is not None,
            "return_tensors": return_tensors is not None,
            "return_dict": return_dict,
        }
        given = [name for name, is_given in of_tokens.items() if is_given]
        if given and not tokenize:
            raise ValueError(f"`{given[0]}` is for tokens, but the result is text: give `tokenize=True`, too.")
        length = self._length_for(of_tokens["truncation"], padding, max_length)
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
        if of_tokens["truncation"] and length is not None:
            left = self.tokenizer.truncation_side == "left"
            rows = [row[max(0, len(row) - length) :] if left else row[:length] for row in rows]
        batch = self.tokenizer.pad(
            {"input_ids": rows},
            padding=padding,
            max_length=length,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_tensors=return_tensors,
        )
        if not is_batch and return_tensors is None:
            batch = type(batch)({name: values[0] for name, values in batch.items()})
        return batch if return_dict else batch["input_ids"]

    def _check_template_arguments(self, template: Any, arguments: dict[str, Any]) -> None:
        """Refuse arguments that neither the tokenizer's rendering nor the template heeds."""
        if arguments.get("return_assistant_tokens_mask"):
            raise ValueError(
                "`return_assistant_tokens_mask` is not supported: audio is joined to the tokens after the template has "
                "written the text; make the mask from the parts that `decode_parts` returns."
            )
        variables = _get_template_variables(self.tokenizer.get_chat_template(template, arguments.get("tools")))
        known = RENDERING_ARGUMENTS | variables
        if unknown := sorted(arguments.keys() - known - {"return_assistant_tokens_mask"}):
            raise TypeError(
                f"`apply_chat_template` does not take `{unknown[0]}`, which is not a variable of the chat template "
                "either: leave it out."
            )
        arguments.pop("return_assistant_tokens_mask", None)

    def _length_for(self, truncates: bool, padding: bool | str, max_length: int | None) -> int | None:
        """Length for truncation and padding; None where neither needs one."""
        if not (truncates or padding == "max_length"):
            if max_length is not None:
                raise ValueError(
                    "`max_length` has no effect alone; give `truncation=True` or `padding='max_length'`, too."
                )
            return None
        length = self.tokenizer.model_max_length if max_length is None else max_length
        if length > LARGE_INTEGER:
            raise ValueError("The tokenizer states no maximum length; give `max_length`.")
        if length < 1:
            raise ValueError(f"`max_length` is {length}; it must be at least 1.")
        return length

    @property
    def _text_size(self) -> int:
        """Number of text tokens, with those that were added since the processor was made."""
        size = len(self.tokenizer)
        if self._sizes[0] != size:
            self._sizes = (size, max(self.tokenizer.get_vocab().values()) + 1)
        return self._sizes[1]

    def _check_text_size(self) -> None:
        """Refuse a tokenizer that has tokens in the range of audio."""
        if self._text_size > self.audio_offset:
            raise ValueError(
                f"The tokenizer has {self._text_size} tokens, but the audio tokens begin at {self.audio_offset}: use "
                "the tokenizer that the processor was made with, or make a new processor and a new language model."
            )

    def _check_text_tokens(self, tokens: Any) -> None:
        """Refuse tokens of text, nested at will, in the range of audio."""
        if self._text_size > self.audio_offset and (found := _first(tokens, self.audio_offset)) is not None:
            raise ValueError(
                f"The text has the token {found}, {self.tokenizer.convert_ids_to_tokens(found)!r}, and audio tokens "
                f"begin at {self.audio_offset}: it was added to the tokenizer after the processor was made. Add tokens "
                "first, and make a new processor with room for them (`audio_offset`)."
            )

    def _check_no_audio(self, tokens: Any) -> None:
        """Refuse audio tokens where text alone is decoded."""
        if (found := _first(tokens, self.audio_offset)) is not None:
            raise ValueError(f"The token {found} is not one of text: decode sequences with audio by `decode_parts`.")

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
        ids = np.asarray(part["ids"].cpu() if isinstance(part["ids"], Tensor) else part["ids"])
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
        tokens = self.tokenizer.encode(text, add_special_tokens=False) if text else []
        self._check_text_tokens(tokens)
        return tokens

    def _decode_text(self, tokens: list[int]) -> list[Part]:
        if not tokens:
            return []
        text = self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return [{"type": "text", "text": text}]


def _parameters(method: Callable[..., Any]) -> Iterator[str]:
    """Names of the arguments that a method takes one by one."""
    several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return (name for name, parameter in inspect.signature(method).parameters.items() if parameter.kind not in several)


def _first(tokens: Any, least: int) -> int | None:
    """The first token from `least` up, in a number, array, tensor or lists of them; None if there is none."""
    if isinstance(tokens, (list, tuple)):
        return next((found for each in tokens if (found := _first(each, least)) is not None), None)
    array = np.asarray(tokens.cpu() if isinstance(tokens, Tensor) else tokens).reshape(-1)
    above = array[array >= least]
    return int(above[0]) if above.size else None


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
