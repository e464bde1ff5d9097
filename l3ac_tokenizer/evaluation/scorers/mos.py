"""Predicted MOS: mean opinion scores of decoded speech, estimated by a network without the original.

Axes: T samples.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ...metrics import MetricError
from ..codecs.base import SCORING_RATE
from .base import Metric, Scorer, Trial, Value


class PredictedMOSScorer(Scorer):
    """MOS predicted for decoded speech. The upper bound is the original's own score, not 5.

    Args:
        name: `dnsmos`, the overall score of P.835 and the score of P.808 by `speechmos` (Reddy et al., 2021, 2022), or
            `distillmos` (Stahl and Gamper, 2025).
        device: torch device of DistillMOS.

    Raises:
        ValueError: no predictor is named `name`.
    """

    def __init__(self, name: str, device: str) -> None:
        if name == "dnsmos":
            from speechmos import dnsmos

            self._predict = lambda audio: _dnsmos(dnsmos, audio)
            self.metrics = {
                "dnsmos_ovrl": Metric("DNSMOS OVRL (predicted)", 2, True, "speechmos"),
                "dnsmos_p808": Metric("DNSMOS P.808 (predicted)", 2, True, "speechmos"),
            }
        elif name == "distillmos":
            from distillmos import ConvTransformerSQAModel

            with contextlib.redirect_stdout(sys.stderr):  # it prints which weights it loads
                model: Any = ConvTransformerSQAModel().to(device).eval()
            self._predict = lambda audio: _distillmos(model, audio)
            self.metrics = {"distillmos": Metric("DistillMOS (predicted)", 2, True, "distillmos")}
        else:
            raise ValueError(f"{name!r} is not a MOS predictor: choose dnsmos or distillmos.")

    def score(self, trial: Trial) -> Mapping[str, Value]:
        """Predicted scores, 1 to 5; speech only."""
        if trial.clip.domain != "speech":
            return {}
        if not trial.estimate.any():
            raise MetricError("Predicted MOS has no value: the decoded clip is silent.")
        return self._predict(trial.estimate)


def _dnsmos(dnsmos: Any, audio: np.ndarray) -> dict[str, Value]:
    scores = dnsmos.run(audio.clip(-1, 1), SCORING_RATE)
    return {"dnsmos_ovrl": float(scores["ovrl_mos"]), "dnsmos_p808": float(scores["p808_mos"])}


@torch.inference_mode()
def _distillmos(model: Any, audio: np.ndarray) -> dict[str, Value]:
    device = next(model.parameters()).device
    return {"distillmos": float(model(torch.from_numpy(audio)[None].to(device)))}
