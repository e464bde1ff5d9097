"""Trust in models whose configuration is a program: it runs only where the user says so."""

from __future__ import annotations


class UntrustedCodeError(ValueError):
    """A model that brings code, which the user has not allowed to run."""


def require_trust(model: str, trust: bool) -> None:
    """Refuse a model of SpeechBrain, whose `hyperparams.yaml` may call any function, unless the user trusts it.

    Raises:
        UntrustedCodeError: `trust` is False.
    """
    if not trust:
        raise UntrustedCodeError(
            f"{model} is a model of SpeechBrain, whose hyperparams.yaml may run any code: give --trust (in Python "
            "trust=True) if you know where it comes from."
        )
