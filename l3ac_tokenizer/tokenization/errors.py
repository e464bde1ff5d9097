"""The error of tokenized corpora."""

from ..listing.errors import DataError


class CorpusError(DataError):
    """A tokenized corpus that cannot be written or read as asked; one sentence says why, and what to do."""
