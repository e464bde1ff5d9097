"""The error of everything that lists or reads audio data."""

from ..causes import InputError


class DataError(InputError):
    """Audio data that cannot be used as given; one sentence names it, says why, and what to do."""
