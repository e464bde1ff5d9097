"""`L3ACProcessor`: text and audio in one token sequence for a language model, and back.

The tokens of ids are a range after those of text (`vocabulary`) without strings, so the files of the text tokenizer do
not grow.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from transformers import BatchEncoding, BatchFeature
from transformers.processing_utils import AUDIO_TOKENIZER_KWARGS, ProcessorMixin
from typing_extensions import Unpack

from .batches import BatchOptions, first_row, given_options, to_batch
from .chats import (
    Message,
    check_template_arguments,
    content_parts,
    render,
    render_with_assistant,
    segments,
    with_marks,
)
from .checks import as_ids
from .hub import refuse_remote_code
from .parts import AUDIO_END, AUDIO_START, Part, Piece, to_pieces
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from .modeling import CodecModel
    from .modeling.span import TimeNormMode

AUDIO_TOKENIZER_FOLDER = "audio_tokenizer"
"""Folder of the codec within that of a processor."""


class L3ACProcessor(ProcessorMixin):
    r"""Joins a codec and the text tokenizer of a language model that reads and writes ids.

    ```python
    >>> codec = AutoModel.from_pretrained("l3ac-1k-light")
    >>> extractor = AutoFeatureExtractor.from_pretrained("l3ac-1k-light")
    >>> processor = L3ACProcessor(extractor, tokenizer, audio_tokenizer=codec)
    >>> language_model = extend_causal_lm(language_model, processor)
    >>> prompt = [{"type": "text", "text": "Hear: "}, {"type": "audio", "audio": "clip.wav"}]
    >>> tokens = language_model.generate(**processor.encode(prompt, open_audio=True, return_tensors="pt"))
    >>> waveforms = processor.post_process_audio(tokens)[0]
    ```

    Called with `audio`, it returns the output of the feature extractor; called with `text`, that of the tokenizer.

    Args:
        feature_extractor ([`CodecFeatureExtractor`]): Feature extractor of the codec.
        tokenizer ([`PreTrainedTokenizerBase`]): Text tokenizer; the tokens `<|audio_start|>` and `<|audio_end|>` are
            added if it lacks them.
        codebook_size (`int`, *optional*): Number of ids; by default that of `audio_tokenizer`, or 117649 without one.
        audio_offset (`int`, *optional*): Token of the id 0; by default the first one after the text tokens. A larger
            one leaves room for text tokens that are added later.
        chat_template (`str`, *optional*): Replaces the chat template of the tokenizer.
        audio_tokenizer ([`CodecModel`], *optional*): Codec that encodes waveforms in parts and decodes ids. It is saved
            and loaded with the processor, in the folder `audio_tokenizer`.

    Raises:
        TypeError: `feature_extractor`, `tokenizer` or `audio_tokenizer` is of another class.
        ValueError: `codebook_size` is not positive or not that of the codec, the feature extractor has another sampling
            rate than the codec, or the tokenizer has tokens beyond `audio_offset`.
    """

    audio_tokenizer: CodecModel | None = None

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Always a ValueError that says how others load this class, see `hub.refuse_remote_code`."""
        refuse_remote_code(cls)

    def __init__(
        self,
        feature_extractor: Any,
        tokenizer: Any,
        codebook_size: int | None = None,
        audio_offset: int | None = None,
        chat_template: str | None = None,
        audio_tokenizer: CodecModel | None = None,
    ):
        super().__init__(feature_extractor, tokenizer, chat_template=chat_template)
        if audio_tokenizer is not None:
            codebook_size = _codebook_size(audio_tokenizer, feature_extractor, codebook_size)
            self.audio_tokenizer = audio_tokenizer
        codebook_size = 117_649 if codebook_size is None else codebook_size
        if codebook_size < 1:
            raise ValueError(f"`codebook_size` is {codebook_size}; give `config.codebook_size` of the codec.")
        self.vocabulary = Vocabulary(tokenizer, codebook_size, audio_offset)
        self.codebook_size = codebook_size
        self.audio_offset = self.vocabulary.audio_offset
        self.audio_start_id = self.vocabulary.audio_start_id
        self.audio_end_id = self.vocabulary.audio_end_id

    @property
    def vocab_size(self) -> int:
        """Number of text and audio tokens: the logits of the language model."""
        return self.vocabulary.size

    # ------------------------------------------------------------------------------------- parts to tokens

    def encode_parts(self, parts: Iterable[Part], open_audio: bool = False) -> list[int]:
        """Encode parts of text and audio as one token sequence, without any further special tokens.

        Adjacent texts are tokenized as one.

        Args:
            parts: `{"type": "text", "text": …}`, `{"type": "audio", "ids": …}` and `{"type": "audio", "audio": …}` in
                any order; see `l3ac_tokenizer.parts.Part` for the forms of audio.
            open_audio: End inside audio, so that a language model goes on with ids: a last audio part has no
                `<|audio_end|>`, and after a text `<|audio_start|>` is added.

        Raises:
            ValueError: A part is neither text nor audio, ids are out of range, audio cannot be used or has no codec
                to encode it, or a text contains `<|audio_start|>` or `<|audio_end|>`.
            OSError: A file cannot be read.
        """
        named = [(part, f"part {index}") for index, part in enumerate(parts)]
        return self.vocabulary.join(self._pieces([named])[0], open_audio)

    def encode(
        self,
        parts: Sequence[Any],
        open_audio: bool = False,
        **options: Unpack[BatchOptions],
    ) -> BatchEncoding:
        """Encode parts, or a batch of parts, as `encode_parts` does, as input of a language model.

        ```python
        >>> batch = processor.encode([[text, clip], [clip]], padding=True, return_tensors="pt", output_labels=True)
        >>> loss = language_model(**batch).loss
        ```

        Args:
            parts: A list of parts, or a batch of such lists.
            open_audio: As in `encode_parts`.
            options: `padding`, `padding_side`, `pad_to_multiple_of`, `truncation`, `max_length` and `return_tensors` as
                in tokenizers; `output_labels=True` adds `labels`, the tokens with −100 at padding.

        Returns:
            `input_ids` and `attention_mask` (B, N), and `labels` if asked for.

        Raises:
            ValueError: As in `encode_parts`, there are no parts, or an option has no effect or is out of range.
            OSError: A file cannot be read.
        """
        if not parts:
            raise ValueError("There are no parts; give at least one.")
        is_batch = not isinstance(parts[0], dict)
        batch: Any = parts if is_batch else [parts]
        named = [
            [(part, f"part {index}" + f" of sequence {number}" * is_batch) for index, part in enumerate(row)]
            for number, row in enumerate(batch)
        ]
        rows = [self.vocabulary.join(pieces, open_audio) for pieces in self._pieces(named)]
        encoded = to_batch(self.tokenizer, rows, {}, **options)
        return encoded if is_batch or options.get("return_tensors") is not None else first_row(encoded)

    def pad(self, sequences: Sequence[Any], **options: Unpack[BatchOptions]) -> BatchEncoding:
        """Pad token sequences to a batch, e.g. as a data collator.

        Args:
            sequences: Token sequences (N,), or mappings with `input_ids`, as `encode_parts` and `encode` return them.
            options: As in `encode`; `padding` is True here unless it is given.

        Returns:
            `input_ids` and `attention_mask` (B, N), and `labels` if asked for.

        Raises:
            ValueError: There are no sequences, one is not of integers, or an option has no effect or is out of range.
        """
        if not len(sequences):
            raise ValueError("There are no sequences to pad; give at least one.")
        rows = []
        for index, sequence in enumerate(sequences):
            tokens = sequence if isinstance(sequence, (list, tuple, np.ndarray, Tensor)) else sequence["input_ids"]
            rows.append(as_ids(tokens, f"`sequences[{index}]`").reshape(-1).tolist())
        return to_batch(self.tokenizer, rows, {}, **{"padding": True, **options})  # type: ignore[arg-type]

    def apply_chat_template(  # type: ignore[override]  # audio needs no placeholder of the template
        self,
        conversation: list[Message] | list[list[Message]],
        chat_template: str | None = None,
        *,
        tokenize: bool = False,
        return_dict: bool = False,
        open_audio: bool = False,
        return_assistant_tokens_mask: bool = False,
        **kwargs: Any,
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
            return_dict: Return a dictionary as `encode` does, instead of `input_ids` alone.
            open_audio: End inside audio, as in `encode_parts`: behind the generation prompt `<|audio_start|>` is added;
                with `continue_final_message`, audio at the end of the last message stays open.
            return_assistant_tokens_mask: Add `assistant_masks` (B, N) to the dictionary: 1 at the tokens, those of
                audio included, that the template writes between `{% generation %}` and `{% endgeneration %}`.
            kwargs: The options of `encode`; `add_generation_prompt`, `continue_final_message`, `tools` and `documents`
                of the tokenizer's method; and variables of the template.

        Raises:
            TypeError: An argument is neither of these nor a variable of the template.
            ValueError: As in `encode`; the template drops or repeats an audio part, or does not mark what the assistant
                says; an argument has no effect, e.g. `padding` without `tokenize=True`; or there are no chats.
            OSError: A file cannot be read.
        """
        is_batch = bool(conversation) and isinstance(conversation[0], list)
        chats: list[Any] = conversation if is_batch else [conversation]
        if not conversation:
            raise ValueError("There are no messages; give at least one.")
        template = chat_template or self.chat_template
        options: Any = {name: kwargs.pop(name) for name in BatchOptions.__annotations__ if name in kwargs}
        check_template_arguments(self.tokenizer, template, kwargs)
        flags = {
            "return_dict": return_dict,
            "open_audio": open_audio,
            "return_assistant_tokens_mask": return_assistant_tokens_mask,
        }
        if (given := given_options(options | flags)) and not tokenize:
            raise ValueError(f"`{given[0]}` is for tokens, but the result is text: give `tokenize=True`, too.")
        if (return_assistant_tokens_mask or options.get("output_labels")) and not return_dict:
            raise ValueError("Masks and labels are entries of a dictionary: give `return_dict=True`, too.")
        named = [content_parts(chat, f" of chat {number}" * is_batch) for number, chat in enumerate(chats)]
        pieces = iter(self._pieces([message for chat in named for message in chat]))
        rendered, rows, masks = [], [], []
        for chat in chats:
            messages, audio = with_marks(chat, [next(pieces) for _ in chat])
            if return_assistant_tokens_mask:
                text, marked = render_with_assistant(self.tokenizer, messages, template, kwargs)
            else:
                text, marked = render(self.tokenizer, messages, template, kwargs), None
            found = segments(text, audio, marked)
            rendered.append(text)
            rows.append(self.vocabulary.join([segment.piece for segment in found], open_audio))
            if marked is not None:
                masks.append([mark for segment in found for mark in self.vocabulary.marks(*segment)])
        if not tokenize:
            return rendered if is_batch else rendered[0]
        batch = to_batch(self.tokenizer, rows, {"assistant_masks": masks} if masks else {}, **options)
        if not is_batch and options.get("return_tensors") is None:
            batch = first_row(batch)
        return batch if return_dict else batch["input_ids"]

    # ------------------------------------------------------------------------------------- tokens to parts

    def decode_parts(self, tokens: Sequence[int], errors: str = "strict") -> list[Part]:
        """Decode a token sequence to its parts of text and audio; the inverse of `encode_parts`.

        The parts are equal to those given to `encode_parts`, with adjacent texts joined, empty texts dropped and ids as
        lists, provided that the tokenizer's decoding inverts its encoding, as it does for byte-level tokenizers (GPT-2,
        Llama 3, Qwen). A final audio part without `<|audio_end|>`, as after interrupted generation, is returned as it
        is. Remove padding first: it would be decoded as text.

        Args:
            tokens: Integers (N,): a list, array or tensor.
            errors: `"strict"` refuses a sequence that `encode_parts` does not give. `"close"` keeps all of it: text
                inside audio, e.g. an end of sequence, closes the audio part and is text, and ids outside audio open a
                part. Such an audio part says under `"error"` what was wrong.

        Raises:
            ValueError: A token is out of range, or `errors` is unknown; or, if strict, an audio token is outside of an
                audio part, or a text token inside one.
        """
        sequence = as_ids(tokens, "`tokens`")
        if sequence.ndim != 1:
            raise ValueError(f"`tokens` has shape {tuple(sequence.shape)}; give one sequence, (num_tokens,).")
        return self.vocabulary.split(sequence.tolist(), errors)

    def decode_audio(self, ids: Any, time_norm: TimeNormMode | None = None) -> Any:
        """Decode ids to a waveform by the audio tokenizer.

        Args:
            ids: Ids (N,) of one clip, as in a part, or a list of those of several clips.
            time_norm: As in the codec's `decode`; `"frozen"` gives what `AudioStreamer` gives.

        Returns:
            Waveform (T,) float32 at the codec's sampling rate, or a list of them. T is N · hop; without ids it is 0.

        Raises:
            ValueError: The processor has no codec, ids are out of range, or see the codec's `decode`.
        """
        codec = self._codec("decode ids")
        is_batch = isinstance(ids, (list, tuple)) and any(np.ndim(row) for row in ids)
        clips = [as_ids(row, "`ids`").cpu().numpy() for row in (ids if is_batch else [ids])]
        from .inference import decode_clips

        full = [clip for clip in clips if clip.size]
        mode = codec.check_time_norm(time_norm)
        waves = iter(decode_clips(codec, full, [len(clip) * codec.config.hop_length for clip in full], mode))
        decoded = [next(waves) if clip.size else np.zeros(0, np.float32) for clip in clips]
        return decoded if is_batch else decoded[0]

    def post_process_audio(self, sequences: Any, time_norm: TimeNormMode | None = None) -> list[Any]:
        """Decode the audio in the output of `generate` to waveforms.

        Args:
            sequences: Tokens (B, N), or of one sequence (N,), with or without the prompt; text and padding are left
                out, and audio that was not closed counts, as in `decode_parts(errors="close")`.
            time_norm: As in `decode_audio`.

        Returns:
            The waveforms (T,) of each sequence, one for each audio part; of one sequence its list alone.

        Raises:
            ValueError: As in `decode_audio`, or a token is out of range.
        """
        is_batch = len(sequences) > 0 and np.ndim(sequences[0]) > 0
        parts = [self.decode_parts(row, errors="close") for row in (sequences if is_batch else [sequences])]
        clips = [[part["ids"] for part in row if part["type"] == "audio"] for row in parts]
        waves = iter(self.decode_audio([np.asarray(ids, np.int64) for row in clips for ids in row], time_norm))
        result = [[next(waves) for _ in row] for row in clips]
        return result if is_batch else result[0]

    def decode(self, token_ids: Any, **kwargs: Any) -> Any:
        """Decode text tokens as the tokenizer does; `decode_parts` decodes sequences with audio.

        Raises:
            ValueError: A token is that of an id.
        """
        self.vocabulary.check_no_audio(token_ids)
        return self.tokenizer.decode(token_ids, **kwargs)

    def batch_decode(self, sequences: Any, **kwargs: Any) -> list[str]:
        """Decode sequences of text tokens as the tokenizer does; `decode_parts` decodes sequences with audio.

        Raises:
            ValueError: A token is that of an id.
        """
        self.vocabulary.check_no_audio(sequences)
        return self.tokenizer.batch_decode(sequences, **kwargs)

    # ---------------------------------------------------------------------------- calling, saving, loading

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
            self.vocabulary.check_text_tokens(output["input_ids"])
        return output

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Write the processor, and the codec if it has one, to a folder.

        Raises:
            ValueError: The tokenizer has grown into the range of audio, so that the folder could not be loaded.
        """
        self.vocabulary.check_text_size()
        if self.audio_tokenizer is not None:
            self.audio_tokenizer.save_pretrained(Path(save_directory) / AUDIO_TOKENIZER_FOLDER)
        saved = super().save_pretrained(save_directory)
        if push_to_hub:
            return self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)
        return saved

    def to_dict(self) -> dict[str, Any]:
        """The values of `processor_config.json`; of the codec, whose weights are files of their own, a digest."""
        values = copy.copy(self)  # transformers copies all attributes deeply, and stores the path of the codec
        values.__dict__.pop("audio_tokenizer", None)
        del values.vocabulary
        digest = {} if self.audio_tokenizer is None else {"encoder_digest": self.audio_tokenizer.encoder_digest()}
        return {**super(L3ACProcessor, values).to_dict(), **digest}

    @classmethod
    def get_processor_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read the values of a saved processor, and load the codec that belongs to it.

        `audio_tokenizer` as an argument of `from_pretrained` replaces the codec; None loads none.

        Raises:
            ValueError: The codec makes other ids than the one that the processor was saved with.
        """
        values, unused = super().get_processor_dict(pretrained_model_name_or_path, **kwargs)
        digest = values.pop("encoder_digest", None)
        if digest is None:
            return values, unused
        if "audio_tokenizer" not in kwargs:
            from .modeling import CodecModel

            names = (*AUDIO_TOKENIZER_KWARGS, "revision", "subfolder")
            where: dict[str, Any] = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
            where["subfolder"] = "/".join(filter(None, [where.get("subfolder"), AUDIO_TOKENIZER_FOLDER]))
            values["audio_tokenizer"] = CodecModel.from_pretrained(pretrained_model_name_or_path, **where)
        codec = kwargs.get("audio_tokenizer", values.get("audio_tokenizer"))
        if codec is not None and codec.encoder_digest() != digest:
            raise ValueError(
                f"The processor of {pretrained_model_name_or_path} was saved with the encoder {digest[:12]}…, and this "
                f"codec has {codec.encoder_digest()[:12]}…, whose ids have another meaning: give the codec that "
                "belongs to it."
            )
        return values, unused

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: Any, processor_dict: Any = None, **kwargs: Any
    ) -> Any:
        others = {key: value for key, value in kwargs.items() if key not in ("audio_tokenizer", "device_map", "dtype")}
        return super()._get_arguments_from_pretrained(pretrained_model_name_or_path, processor_dict, **others)

    def _codec(self, purpose: str) -> CodecModel:
        if self.audio_tokenizer is None:
            raise ValueError(f"The processor has no codec to {purpose}: make it with `audio_tokenizer`.")
        return self.audio_tokenizer

    def _pieces(self, rows: Sequence[Sequence[tuple[Part, str]]]) -> list[list[Piece]]:
        """Check named parts in rows; the waveforms of all rows are encoded together."""
        flat = [named for row in rows for named in row]
        pieces = iter(to_pieces(flat, self.codebook_size, self.audio_tokenizer))
        return [[next(pieces) for _ in row] for row in rows]


def _codebook_size(codec: Any, feature_extractor: Any, given: int | None) -> int:
    """The codebook size of a codec, after checking what is given beside it."""
    from .modeling import CodecModel

    if not isinstance(codec, CodecModel):
        raise TypeError(f"`audio_tokenizer` is a {type(codec).__name__}; give a codec of this package.")
    size = math.prod(codec.config.frame_levels)
    if given not in (None, size):
        raise ValueError(f"`codebook_size` is {given} and the codec has {size} ids: leave `codebook_size` out.")
    if feature_extractor.sampling_rate != codec.config.sampling_rate:
        raise ValueError(
            f"The feature extractor has {feature_extractor.sampling_rate} Hz and the codec "
            f"{codec.config.sampling_rate} Hz: load both from one checkpoint."
        )
    return size


def _parameters(method: Callable[..., Any]) -> Iterator[str]:
    """Names of the arguments that a method takes one by one."""
    several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return (name for name, parameter in inspect.signature(method).parameters.items() if parameter.kind not in several)


__all__ = ["AUDIO_END", "AUDIO_START", "L3ACProcessor"]
