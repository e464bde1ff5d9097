"""Chat templates and audio: placeholders in the text that a template writes, and the pieces that it becomes.

A template sees each audio part as a numbered placeholder in the text of its message, so any template that writes the
text of the messages works.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from transformers.utils.chat_template_utils import _get_template_variables, render_jinja_template

from .parts import AUDIO_END, AUDIO_START, Part, Piece

Message = dict[str, Any]
"""`{"role": str, "content": str or list of parts}`, and what else the template reads."""

_AUDIO_MARKS = re.compile(re.escape(AUDIO_START) + r"(\d+)" + re.escape(AUDIO_END))
"""Placeholder of an audio part: its number in the conversation."""

_RENDERING_ARGUMENTS = {
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "sanitize_control_tokens",
}
"""Arguments of the tokenizer's `apply_chat_template` that change the text."""


class Segment(NamedTuple):
    """A piece of a chat that a template wrote.

    Attributes:
        piece: text, or ids.
        is_assistant: characters of the text that the template marks as written by the assistant; of audio, one value.
    """

    piece: Piece
    is_assistant: list[bool]


def content_parts(chat: Sequence[Message], name: str) -> list[list[tuple[Part, str]]]:
    """The parts of each message, each with its name in messages; none for a message without content, e.g. a tool call.

    Args:
        chat: the messages.
        name: of the chat in messages, e.g. " of chat 3"; empty for a single one.
    """
    parts = []
    for number, message in enumerate(chat):
        content = message.get("content")
        written = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        parts.append([(part, f"part {index} of message {number}{name}") for index, part in enumerate(written)])
    return parts


def with_marks(chat: Sequence[Message], pieces: Sequence[Sequence[Piece]]) -> tuple[list[Message], list[list[int]]]:
    """Replace the content of messages by their text with placeholders; returns them, and the ids in order."""
    audio: list[list[int]] = []
    messages = []
    for message, written in zip(chat, pieces, strict=True):
        text = ""
        for piece in written:
            if isinstance(piece, str):
                text += piece
            else:
                text += f"{AUDIO_START}{len(audio)}{AUDIO_END}"
                audio.append(piece)
        messages.append(message if message.get("content") is None else {**message, "content": text})
    return messages, audio


def check_template_arguments(tokenizer: Any, template: Any, arguments: dict[str, Any]) -> None:
    """Refuse arguments that neither the tokenizer's rendering nor the template heeds.

    Raises:
        TypeError: There is one.
    """
    variables = _get_template_variables(tokenizer.get_chat_template(template, arguments.get("tools")))
    if unknown := sorted(arguments.keys() - _RENDERING_ARGUMENTS - variables):
        raise TypeError(
            f"`apply_chat_template` does not take `{unknown[0]}`, which is not a variable of the chat template "
            "either: leave it out."
        )


def render(tokenizer: Any, messages: list[Message], template: Any, arguments: dict[str, Any]) -> str:
    """The text that the template writes for messages."""
    text: str = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **arguments)
    return text


def render_with_assistant(
    tokenizer: Any, messages: list[Message], template: Any, arguments: dict[str, Any]
) -> tuple[str, list[bool]]:
    """The text that the template writes, and which of its characters are in a `{% generation %}` block.

    Raises:
        ValueError: The template has no such block, the tokenizer does not tell the characters of its tokens, or
            `continue_final_message` or `sanitize_control_tokens` is given.
    """
    source = tokenizer.get_chat_template(template, arguments.get("tools"))
    if not re.search(r"\{%-?\s*generation\s*-?%\}", source):
        raise ValueError(
            "`return_assistant_tokens_mask` needs a chat template that marks the assistant's text with "
            "`{% generation %}` and `{% endgeneration %}`: add them to the template."
        )
    if not tokenizer.is_fast:
        raise ValueError("`return_assistant_tokens_mask` needs a fast tokenizer: load it with `tokenizers` installed.")
    for name in ("continue_final_message", "sanitize_control_tokens"):
        if arguments.get(name):
            raise ValueError(f"`return_assistant_tokens_mask` does not work with `{name}`: leave one of them out.")
    variables = {name: value for name, value in arguments.items() if name != "sanitize_control_tokens"}
    rendered: Any = render_jinja_template(
        conversations=[messages],
        chat_template=source,
        return_assistant_tokens_mask=True,
        **{**tokenizer.special_tokens_map, **variables},
    )
    (text,), (spans,) = rendered
    marked = [False] * len(text)
    for start, stop in spans:
        marked[start:stop] = [True] * (stop - start)
    return text, marked


def segments(text: str, audio: Sequence[list[int]], is_assistant: list[bool] | None = None) -> list[Segment]:
    """Replace the placeholders in the output of a template by ids.

    Raises:
        ValueError: The template dropped or repeated a placeholder.
    """
    marked = [False] * len(text) if is_assistant is None else is_assistant
    found = list(_AUDIO_MARKS.finditer(text))
    numbers = [int(match[1]) for match in found]
    if sorted(numbers) != list(range(len(audio))):
        raise ValueError(
            f"The chat template wrote the audio parts {numbers} of {len(audio)}, but must write each of them once: use "
            "a template that writes the content of every message."
        )
    result, position = [], 0
    for match, number in zip(found, numbers, strict=True):
        result.append(Segment(text[position : match.start()], marked[position : match.start()]))
        result.append(Segment(audio[number], [marked[match.start()]]))
        position = match.end()
    return [*result, Segment(text[position:], marked[position:])]
