"""The error of this package."""


class CorpusError(ValueError):
    """A corpus, tokenized or not, that cannot be worked with as asked; one sentence says why and what to do."""
