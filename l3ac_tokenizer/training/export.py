"""Export of a codec in training to a checkpoint directory that `from_pretrained` reads."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from ..feature_extraction import CodecFeatureExtractor
from ..modeling import CodecModel
from ..modeling.pretrained import ENCODER
from ..modeling.time_norm import TimeNorm
from .network import TrainableCodec


def plain_model(codec: TrainableCodec, calibration: Sequence[torch.Tensor] = ()) -> CodecModel:
    """The plain network with the codec's weights, in float32 and evaluation mode, on the codec's device.

    `calibration` are clips (T,) whose statistics `time_norm="frozen"` will use, if the network has time normalization.
    """
    model = type(codec.model)(codec.model.config).eval()
    model.load_state_dict(codec.plain_state())
    model.to(codec.model.device)
    if calibration and any(isinstance(module, TimeNorm) for module in model.modules()):
        model.calibrate_time_norm(calibration)
    return model


def run_checkpoint(folder: Path) -> Path:
    """The checkpoint of a run that has ended: the one with the best score, or the last one if nothing was held out."""
    return next(folder / name for name in ("best", "export") if (folder / name).is_dir())


def recover_export(folder: Path) -> None:
    """Remove what a killed `export_checkpoint` left beside `folder`; restore the old folder if it is missing."""
    for workplace in folder.parent.glob(f".{folder.name}-*"):
        if not folder.exists() and (workplace / "old").is_dir():  # killed between the two renames
            os.replace(workplace / "old", folder)
        shutil.rmtree(workplace)


def export_checkpoint(
    model: CodecModel,
    folder: str | Path,
    card: str,
    companions: Mapping[str, nn.Module] | None = None,
    level_lufs: float | None = None,
) -> None:
    """Write a checkpoint directory with parameters in float16, replacing `folder` as a whole.

    Buffers stay in float32, and so do tensors that float16 would change in an encoder whose ids must stay (`ids_of`).
    `config.json` says float32. `card` becomes README.md. `companions` are networks that only training needs, by file
    name, e.g. `head.safetensors`; later runs continue from them. `level_lufs` is that of the feature extractor.
    """
    folder = Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new = workplace / "new"
        new.mkdir()
        exact = ENCODER if model.config.ids_of else ()
        parameters = {name for name, _ in model.named_parameters()}
        state = {
            name: tensor.half()
            if name in parameters and (not name.startswith(exact) or torch.equal(tensor.half().float(), tensor))
            else tensor.clone()
            for name, tensor in model.state_dict().items()
        }
        model.save_pretrained(new, state_dict=state)
        CodecFeatureExtractor(sampling_rate=model.config.sampling_rate, level_lufs=level_lufs).save_pretrained(new)
        (new / "README.md").write_text(card, encoding="utf-8")
        for name, network in (companions or {}).items():
            save_file({key: tensor.cpu().contiguous() for key, tensor in network.state_dict().items()}, new / name)
        for file in new.iterdir():  # safetensors creates files for the user alone
            file.chmod((new / "README.md").stat().st_mode)
        if folder.exists():
            os.replace(folder, workplace / "old")
        os.replace(new, folder)
    finally:
        shutil.rmtree(workplace)
