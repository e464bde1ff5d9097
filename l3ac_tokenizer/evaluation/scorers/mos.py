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
from huggingface_hub import hf_hub_download

from ...metrics import MetricError
from ..codecs.base import SCORING_RATE
from .base import Metric, Scorer, Trial, Value

UTMOS_WEIGHTS = ("Blinorot/UTMOS-PyTorch", "utmos_state_dict.pt", "4f2447e519df3b88567b45583d3500006729502b")
"""Repository on the hub, file and commit of the UTMOS weights: the package would take the newest commit, and accepts
files that lack tensors. It reads them with `weights_only=True`."""


class PredictedMOSScorer(Scorer):
    """MOS predicted for decoded speech. The upper bound is the original's own score, not 5.

    Args:
        name: `dnsmos`, the overall score of P.835 and the score of P.808 by `speechmos` (Reddy et al., 2021, 2022),
            `distillmos` (Stahl and Gamper, 2025), or `utmos`, the strong learner of Saeki et al., "UTMOS", 2022, by
            `utmos-pytorch`, whose weights come from the hub.
        device: torch device of DistillMOS and UTMOS.

    Raises:
        ValueError: no predictor is named `name`.
        OSError: the weights of UTMOS cannot be had from the hub.
        ModuleNotFoundError: a package is missing.
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
        elif name == "utmos":
            from utmos_pytorch import UTMOSScoreTorch

            repository, file, commit = UTMOS_WEIGHTS
            weights = hf_hub_download(repository, file, revision=commit)
            utmos: Any = UTMOSScoreTorch(weights, device)
            self._predict = lambda audio: {"utmos": float(utmos.score(torch.from_numpy(audio).to(device)))}
            self.metrics = {"utmos": Metric("UTMOS (predicted)", 2, True, "UTMOS22 strong learner; utmos-pytorch")}
        else:
            raise ValueError(f"{name!r} is not a MOS predictor: choose dnsmos, distillmos or utmos.")

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
