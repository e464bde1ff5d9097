"""`Vocabulary`: text tokens and ids as one range of tokens, and pieces of text and audio as sequences of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from transformers import AddedToken

from .parts import AUDIO_END, AUDIO_START, Part, Piece


class Vocabulary:
    """Vocabulary of a language model that reads and writes text and ids.

        0 … audio_offset − 1                              text, including `<|audio_start|>` and `<|audio_end|>`
        audio_offset … audio_offset + codebook_size − 1   ids

    Args:
        tokenizer: Text tokenizer, to which the two tokens are added if it lacks them.
        codebook_size: Number of ids.
        audio_offset: Token of the id 0; None: the first one after the text tokens.

    Raises:
        ValueError: The tokenizer has tokens beyond `audio_offset`.
    """

    def __init__(self, tokenizer: Any, codebook_size: int, audio_offset: int | None):
        tokenizer.add_tokens(
            [AddedToken(mark, special=True, normalized=False) for mark in (AUDIO_START, AUDIO_END)], special_tokens=True
        )
        self.tokenizer = tokenizer
        self._sizes = (-1, 0)
        self.audio_offset = self.text_size if audio_offset is None else audio_offset
        self.check_text_size()
        self.codebook_size = codebook_size
        self.audio_start_id, self.audio_end_id = tokenizer.convert_tokens_to_ids([AUDIO_START, AUDIO_END])

    @property
    def text_size(self) -> int:
        """Number of text tokens, with those that were added since the vocabulary was made."""
        size = len(self.tokenizer)
        if self._sizes[0] != size:
            self._sizes = (size, max(self.tokenizer.get_vocab().values()) + 1)
        return self._sizes[1]

    @property
    def size(self) -> int:
        """Number of text and audio tokens."""
        return self.audio_offset + self.codebook_size

    def is_id(self, tokens: Any) -> Any:
        """Whether a token, or each of a tensor of them, is that of an id."""
        return (tokens >= self.audio_offset) & (tokens < self.size)

    # ---------------------------------------------------------------------------------------------- checks

    def check_text_size(self) -> None:
        """Refuse a tokenizer that has tokens in the range of audio.

        Raises:
            ValueError: Tokens were added to the tokenizer after the vocabulary was made.
        """
        if self.text_size > self.audio_offset:
            raise ValueError(
                f"The tokenizer has {self.text_size} tokens, but the audio tokens begin at {self.audio_offset}: use "
                "the tokenizer that the processor was made with, or make a new processor and a new language model."
            )

    def check_text_tokens(self, tokens: Any) -> None:
        """Refuse tokens of text, nested at will, in the range of audio.

        Raises:
            ValueError: There is one.
        """
        if self.text_size > self.audio_offset and (found := _first(tokens, self.audio_offset)) is not None:
            raise ValueError(
                f"The text has the token {found}, {self.tokenizer.convert_ids_to_tokens(found)!r}, and audio tokens "
                f"begin at {self.audio_offset}: it was added to the tokenizer after the processor was made. Add tokens "
                "first, and make a new processor with room for them (`audio_offset`)."
            )

    def check_no_audio(self, tokens: Any) -> None:
        """Refuse audio tokens, nested at will, where text alone is decoded.

        Raises:
            ValueError: There is one.
        """
        if (found := _first(tokens, self.audio_offset)) is not None:
            raise ValueError(f"The token {found} is not one of text: decode sequences with audio by `decode_parts`.")

    # ------------------------------------------------------------------------------------------- sequences

    def join(self, pieces: Sequence[Piece], open_audio: bool = False) -> list[int]:
        """Join texts and ids to one token sequence; adjacent texts are tokenized as one.

        Args:
            pieces: texts, and ids of audio.
            open_audio: end inside audio, without `<|audio_end|>`.
        """
        tokens: list[int] = []
        text = ""
        for piece in pieces:
            if isinstance(piece, str):
                text += piece
                continue
            ids = (each + self.audio_offset for each in piece)
            tokens += [*self._encode_text(text), self.audio_start_id, *ids, self.audio_end_id]
            text = ""
        if open_audio and tokens and not text:
            return tokens[:-1]
        return tokens + self._encode_text(text) + [self.audio_start_id] * open_audio

    def split(self, tokens: Sequence[int], errors: str) -> list[Part]:
        """Split a token sequence into parts; see `L3ACProcessor.decode_parts`.

        Raises:
            ValueError: A token is out of range, or `errors` is unknown; or, if strict, an audio token is outside of an
                audio part, or a text token inside one.
        """
        if errors not in ("strict", "close"):
            raise ValueError(f"`errors` is {errors!r}; it must be 'strict' or 'close'.")
        parts: list[Part] = []
        text: list[int] = []
        open_part: Part | None = None
        text_size = min(self.text_size, self.audio_offset)
        for position, token in enumerate(tokens):
            is_id = self.is_id(token)
            if not is_id and not 0 <= token < text_size:
                raise ValueError(
                    f"Token {position} is {token}; text tokens are 0 to {text_size - 1}, audio tokens are "
                    f"{self.audio_offset} to {self.size - 1}."
                )
            error = None
            if open_part is None and (is_id or token == self.audio_end_id):
                error = f"Token {position} is the audio token {token}, without {AUDIO_START} before it."
            elif open_part is not None and not is_id and token != self.audio_end_id:
                error = f"Token {position} is the text token {token}, without {AUDIO_END} before it."
            if error and errors == "strict":
                raise ValueError(error)
            if error and open_part is not None:
                open_part["error"] = " ".join(filter(None, [open_part.get("error"), error]))
                open_part = error = None
            if open_part is None and (is_id or token in (self.audio_start_id, self.audio_end_id)):
                parts += self._decode_text(text)
                text = []
                open_part = {"type": "audio", "ids": [], **({"error": error} if error else {})}
                parts.append(open_part)
            if open_part is None:
                text.append(token)
            elif is_id:
                open_part["ids"].append(token - self.audio_offset)
            elif token == self.audio_end_id:
                open_part = None
        return parts + self._decode_text(text)

    def marks(self, piece: Piece, characters: list[bool]) -> list[int]:
        """1 for each token of a piece of which a character is marked, and 0 for each other one.

        Args:
            piece: text, or ids of audio.
            characters: a mark for each character of the text; for ids, one for all.
        """
        if not isinstance(piece, str):
            return [int(characters[0])] * (len(piece) + 2)
        if not piece:
            return []
        encoded = self.tokenizer(piece, add_special_tokens=False, return_offsets_mapping=True)
        return [int(any(characters[start:stop])) for start, stop in encoded["offset_mapping"]]

    def _encode_text(self, text: str) -> list[int]:
        tokens = self.tokenizer.encode(text, add_special_tokens=False) if text else []
        self.check_text_tokens(tokens)
        return tokens

    def _decode_text(self, tokens: list[int]) -> list[Part]:
        if not tokens:
            return []
        text = self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return [{"type": "text", "text": text}]


def _first(tokens: Any, least: int) -> int | None:
    """The first token from `least` up, in a number, array, tensor or lists of them; None if there is none."""
    if isinstance(tokens, (list, tuple)):
        return next((found for each in tokens if (found := _first(each, least)) is not None), None)
    array = np.asarray(tokens.cpu() if isinstance(tokens, Tensor) else tokens).reshape(-1)
    above = array[array >= least]
    return int(above[0]) if above.size else None
