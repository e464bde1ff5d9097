"""Errors as sentences: the causes that other libraries hide behind general errors, and the failure of one item."""

from __future__ import annotations

from .limits import MESSAGE_CHARACTERS


def with_causes(error: BaseException) -> str:
    """The message of an error and of those that it was raised from, on one line, without a period at the end.

    A message that another one repeats is left out.
    """
    told: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        message = _first_line(current)
        if not any(message in other for other in told):
            told.append(message)
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    return ", because: ".join(told)


def shortened(text: str, most: int = MESSAGE_CHARACTERS) -> str:
    """A text of at most `most` characters; of a longer one the middle is left out."""
    if len(text) <= most:
        return text
    return f"{text[: most * 3 // 4]} … {text[-(most // 4) + 3 :]}"


class InputError(ValueError):
    """Data from outside that cannot be used as given; its message is bounded, whatever it quotes."""

    def __init__(self, message: object = "") -> None:
        super().__init__(shortened(str(message)))


def failure(error: BaseException) -> str:
    """The sentence that records an error, of any class, as the failure of one item, while the others continue."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"There is not enough memory ({shortened(str(error), 200) or type(error).__name__})."
    text = shortened(" ".join(str(error).split()))
    if isinstance(error, (ValueError, OSError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _first_line(error: BaseException) -> str:
    """The first line of a message, in which the remedies of other libraries do not follow; the type if it is empty."""
    if isinstance(error, KeyError):  # whose message is a bare key
        return f"KeyError {error}"
    text = str(error).strip()
    line = " ".join(text.partition("\n")[0].split()).rstrip(". ")
    return line or type(error).__name__
