"""Recognizer trained by `recipes/LibriSpeech/ASR`, for audio or ids; needs no download.

Axes: T samples, N ids.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..inference import encode_clips
from ..modeling import CodecEncoderModel
from ..trust import require_trust
from .ids import check_run


class TokenRecognizer:
    """Speech recognizer from a trained run of the recipe: audio or ids to words, with greedy decoding.

    Attributes:
        label: Name in tables.

    Args:
        run: `output_folder` of the run.
        device: Torch device.
        trust: Run its `hyperparams.yaml`, which may hold any code.
        codec: Codec whose ids are to be read, which the run must have been trained on; None: any.

    Raises:
        UntrustedCodeError: `trust` is False.
        OSError: `run` is not the folder of a run.
        ValueError: The run has no checkpoint, does not read ids, or was trained on ids of other weights than its codec
            has now, or `codec`.
    """

    sampling_rate = 16_000

    def __init__(
        self, run: str | os.PathLike[str], device: str = "cpu", *, trust: bool = False, codec: str | None = None
    ) -> None:
        from hyperpyyaml import load_hyperpyyaml
        from sentencepiece import SentencePieceProcessor

        settings = Path(run, "hyperparams.yaml")
        if not settings.is_file():
            raise FileNotFoundError(f"{settings} does not exist: give the output_folder of a run of LibriSpeech/ASR.")
        require_trust(os.fspath(run), trust)
        with torch.random.fork_rng(devices=[]), open(settings, encoding="utf-8") as file:
            # The file records the folder that the run was trained in; the run may have been moved.
            moved = {"checkpointer": {"checkpoints_dir": os.fspath(Path(run, "save"))}}
            hparams: dict[str, Any] = load_hyperpyyaml(file, moved)
        if hparams["inputs"] != "ids":
            raise ValueError(f"{run} reads {hparams['inputs']} instead of ids: give a run that reads ids.")
        if hparams["checkpointer"].recover_if_possible(min_key="WER") is None:
            raise ValueError(f"{run} has no checkpoint: train it first.")
        self.label = f"token ASR ({Path(run).name})"
        self._device = torch.device(device)
        self._modules = {name: module.to(self._device).eval() for name, module in hparams["modules"].items()}
        self._blank = hparams["blank_index"]
        for name in dict.fromkeys((hparams["codec"], codec or hparams["codec"])):
            check_run(Path(run, "save"), name)
        units = Path(run, "save", f"{hparams['output_neurons']}_{hparams['token_type']}.model")
        self._units = SentencePieceProcessor(model_file=os.fspath(units))
        self._codec = CodecEncoderModel.from_pretrained(hparams["codec"]).eval().to(self._device)

    def __call__(self, wave: np.ndarray) -> str:
        """Return the words in a clip (T,), float32 at 16 kHz."""
        return self.recognize_ids(torch.from_numpy(encode_clips(self._codec, [wave])[0]))

    @torch.no_grad()
    def recognize_ids(self, ids: Tensor) -> str:
        """Return the words in ids (N,)."""
        from speechbrain.decoders import ctc_greedy_decode

        length = torch.ones(1, device=self._device)
        features, length = self._modules["frontend"](ids[None].to(self._device), length)
        encoded, _ = self._modules["encoder"](features, lengths=length)
        log_probs = self._modules["ctc_lin"](encoded)[..., : self._units.vocab_size()].log_softmax(dim=-1)
        return self._units.decode(ctc_greedy_decode(log_probs, length, blank_id=self._blank)[0])
