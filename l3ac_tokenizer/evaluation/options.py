"""What is measured, and on what: the settings of a run, and the scorer that they stand for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .scoring import ClipScorer


@dataclass(frozen=True)
class Options:
    """Settings of a run.

    Attributes:
        consistency: also encode changed clips.
        device: of the codecs and of models that score.
        threads: of torch, a process.
    """

    consistency: bool = True
    device: str = "cpu"
    threads: int = 1

    def of_rows(self) -> Options:
        """The same without what rows do not depend on."""
        return replace(self, device="", threads=0)

    def make_scorer(self) -> ClipScorer:
        """The scorer, its models loaded.

        Raises:
            ValueError: a model cannot be loaded.
        """
        return ClipScorer(consistent_ids=self.consistency)
