"""Publishing on the Hugging Face hub: a folder with weights and a model card, and its upload.

`model.push_to_hub` uploads a model in memory; here it is a checkpoint directory, whose weights stay the same bit for
bit and which is loaded and run once before anything is uploaded.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import torch
from huggingface_hub import HfApi

from .feature_extraction import CodecFeatureExtractor
from .hub import checkpoint_folder
from .hub_card import complete_card
from .modeling import CodecModel

FILES = ("config.json", "preprocessor_config.json", "model.safetensors", "README.md")


def export_folder(checkpoint: str | Path, folder: str | Path, repository: str | None = None) -> str:
    """Write a folder for the hub, and return the weights digest.

    Args:
        checkpoint: Directory from training or conversion, bundled name, or hub name.
        folder: New or empty folder.
        repository: Name on the hub, for the card; None if it is not known yet.

    Raises:
        OSError: `checkpoint` lacks a file or cannot be loaded, or `folder` exists and is not empty.
        ValueError: `checkpoint` is not a directory, or the model does not decode to finite audio.
    """
    source, folder = Path(checkpoint_folder(str(checkpoint))), Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OSError(f"{folder} already exists; choose a new folder, or remove this one first.")
    missing = [name for name in FILES if not (source / name).is_file()]
    if missing:
        raise OSError(f"{source} has no {' and no '.join(missing)}; give a checkpoint directory with a model card.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name in FILES:
            shutil.copyfile(source / name, staging / name)
        digest = _tried(staging)
        complete_card(staging / "README.md", digest, repository)
        staging.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        os.replace(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return digest


def upload_folder(folder: str | Path, repository: str, *, private: bool = False) -> str:
    """Upload an exported folder to the hub repository `OWNER/NAME`, created if necessary; return the commit's URL.

    Raises:
        OSError: The hub cannot be reached or rejects the upload.
    """
    hub = HfApi()
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        return str(hub.upload_folder(repo_id=repository, folder_path=folder).commit_url)
    except Exception as error:  # the HTTP library, and so its errors, depend on the version
        raise OSError(
            f"{repository} could not be written to the hub ({error}); log in with `hf auth login`."
        ) from error


@torch.inference_mode()
def _tried(folder: Path) -> str:
    """Load the folder, encode and decode one second of noise, and return the weights digest."""
    model = CodecModel.from_pretrained(folder).eval()
    extractor = CodecFeatureExtractor.from_pretrained(folder)
    rate = model.config.sampling_rate
    noise = 0.1 * torch.randn(rate, generator=torch.Generator().manual_seed(0))
    inputs = extractor(noise.numpy(), sampling_rate=rate, return_tensors="pt")
    audio = model.decode(model.encode(**inputs).audio_codes).audio_values
    if not audio.isfinite().all():
        raise ValueError(
            f"The model in {folder} decodes to infinite samples or NaN, its weights are corrupt; give other weights."
        )
    return model.weights_digest()
