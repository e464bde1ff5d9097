"""Export of a checkpoint directory to a folder for the Hugging Face hub, optionally with upload.

    python -m hf_integration.export CHECKPOINT -o FOLDER [--push USER/NAME [--private]]

CHECKPOINT is a directory from training or `l3ac convert`, or a bundled name. The folder gets the same weights, bit for
bit, and a model card with the metadata that the hub uses to find, label and load a model. The exported model is loaded
and run once before anything is uploaded.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from huggingface_hub import HfApi, ModelCard

from l3ac_tokenizer import CodecFeatureExtractor, CodecModel
from l3ac_tokenizer.hub import resolve
from l3ac_tokenizer.markup import printable

FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
METADATA = {
    "library_name": "l3ac_tokenizer",
    "pipeline_tag": "audio-to-audio",
    "tags": ["l3ac", "audio", "audio-tokenizer", "neural-codec", "fsq", "speech-language-model"],
}


def export(checkpoint: str | Path, folder: str | Path) -> str:
    """Write a folder for the hub, and return the weights digest.

    Raises:
        OSError: `checkpoint` lacks a file or cannot be loaded, or `folder` exists and is not empty.
        ValueError: The model does not decode to finite audio.
    """
    source, folder = Path(resolve(str(checkpoint))), Path(folder)
    if not source.is_dir():
        raise OSError(f"{source} is not a folder; give a checkpoint directory or a bundled name.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OSError(f"{folder} already exists; choose a new folder, or remove this one first.")
    missing = [name for name in (*FILES, "README.md") if not (source / name).is_file()]
    if missing:
        raise OSError(f"{source} has no {' and no '.join(missing)}; give a checkpoint directory with a model card.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name in FILES:
            shutil.copyfile(source / name, staging / name)
        digest = _tried(staging)
        card = ModelCard((source / "README.md").read_text())
        for key, value in METADATA.items():
            setattr(card.data, key, value)
        card.text = _how_to_load(digest) + card.text
        card.save(staging / "README.md")
        staging.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        os.replace(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return digest


def push(folder: str | Path, repository: str, *, private: bool) -> str:
    """Upload an exported folder to the hub repository `USER/NAME`, created if necessary; return the URL of the commit.

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


def _how_to_load(digest: str) -> str:
    return (
        "```bash\npip install l3ac-tokenizer\n```\n\n"
        "`import l3ac_tokenizer`, then `AutoModel.from_pretrained` takes this repository's name. "
        f"Weights digest: `{digest}`.\n\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Export a checkpoint to a folder for the Hugging Face hub.")
    parser.add_argument("checkpoint", help="checkpoint directory, or a bundled name")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="folder to write")
    parser.add_argument("--push", metavar="USER/NAME", help="upload the folder to this repository")
    parser.add_argument("--private", action="store_true", help="create a private repository")
    options = parser.parse_args(arguments)
    try:
        digest = export(options.checkpoint, options.output)
        print(f"{options.output}: weights digest {digest}")
        if options.push:
            print(push(options.output, options.push, private=options.private))
    except (OSError, ValueError) as error:
        print(printable(f"export: {error}"), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
