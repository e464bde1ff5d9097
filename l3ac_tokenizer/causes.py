"""Causes of errors of other libraries, which hide them behind general ones."""

from __future__ import annotations


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


def _first_line(error: BaseException) -> str:
    """The first line of a message, in which the remedies of other libraries do not follow; the type if it is empty."""
    if isinstance(error, KeyError):  # whose message is a bare key
        return f"KeyError {error}"
    text = str(error).strip()
    line = " ".join(text.partition("\n")[0].split()).rstrip(". ")
    return line or type(error).__name__
