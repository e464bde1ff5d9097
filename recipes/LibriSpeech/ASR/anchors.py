"""Baseline inputs for the recognizer, computed from the same audio as the ids.

    python anchors.py hparams/lstm_small.yaml --data_folder LIBRISPEECH --cached_data_folder CACHE --inputs log_mel
    python train.py hparams/lstm_small.yaml --data_folder LIBRISPEECH --cached_data_folder CACHE \
        --inputs log_mel --input_size 80

| `--inputs` | frames | `--input_size` |
|---|---|---:|
| `latents` | the codec's latents before rounding; shows the cost of rounding | number of levels |
| `log_mel` | 80 log-mel bands with the codec's hop, without any codec | 80 |
| `pca_fsq` | principal components of the log-mel bands, one for each digit, rounded to its levels | number of levels |

Means, variances and principal components are computed on the training subset. All frames are kept in memory, so this
is for small corpora.
"""

import os
import sys

import numpy as np
import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from librispeech_prepare import prepare_librispeech
from speechbrain.lobes.features import Fbank
from tqdm import tqdm

from l3ac_tokenizer import CodecModel
from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.names import file_within
from l3ac_tokenizer.speechbrain import FrameStore, read_manifest

MEL_BANDS = 80


def log_mel(wave, codec):
    """Return log-mel bands (N, 80) of a clip (T,), one frame for each id."""
    config = codec.config
    hop = 1000 * config.hop_length / config.sampling_rate
    fbank = Fbank(sample_rate=config.sampling_rate, n_mels=MEL_BANDS, hop_length=hop, win_length=25)
    frames = fbank(torch.from_numpy(wave)[None])[0]
    return frames[: -(-len(wave) // config.hop_length)].numpy()


def latents(wave, codec):
    """Return the latents (N, L) of a clip (T,)."""
    return codec.encode(torch.from_numpy(wave)[None, None]).latents[0].numpy()


def normalized(frames, training_names):
    """Normalize the frames (N, F) of all clips to mean 0 and variance 1 in training."""
    training = np.concatenate([frames[name] for name in training_names])
    mean, scale = training.mean(axis=0), training.std(axis=0)
    return {name: (each - mean) / scale for name, each in frames.items()}


def pca_fsq(mels, training_names, levels):
    """Project the frames (N, 80) of all clips to L principal components, rounded to levels in [-1, 1]: (N, L)."""
    _, vectors = np.linalg.eigh(np.cov(np.concatenate([mels[name] for name in training_names]).T))
    basis = vectors[:, ::-1][:, : len(levels)]
    components = normalized({name: each @ basis for name, each in mels.items()}, training_names)
    steps = (np.asarray(levels) - 1) / 2
    return {name: np.round(np.tanh(each) * steps) / steps for name, each in components.items()}


@torch.inference_mode()
def main(argv):
    """Compute the frames of every utterance in the CSV files.

    Raises:
        ValueError: `inputs` is not one of the baseline inputs.
    """
    hparams_file, _, overrides = sb.parse_arguments(argv)
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    kind = hparams["inputs"]
    if kind not in ("latents", "log_mel", "pca_fsq"):
        raise ValueError(f"`inputs` is {kind!r}; it must be latents, log_mel or pca_fsq.")
    prepare_librispeech(**hparams["prepare"])
    manifests = [read_manifest(path) for path in (hparams["train_csv"], hparams["valid_csv"], *hparams["test_csv"])]
    rows = {row.ID: row for manifest in manifests for row in manifest}
    codec = CodecModel.from_pretrained(hparams["codec"]).eval()
    frames_of = latents if kind == "latents" else log_mel
    frames = {}
    for row in tqdm(rows.values(), disable=None):
        path = row.wav.replace("$data_root", hparams["data_folder"])
        path = file_within(os.path.abspath(path), hparams["data_folder"], allow_outside=hparams["allow_outside"])
        frames[row.ID] = frames_of(read_audio(path, codec.config.sampling_rate)[0], codec)
    training_names = [row.ID for row in manifests[0]]
    if kind == "pca_fsq":
        frames = pca_fsq(frames, training_names, codec.config.grid_levels)
    else:
        frames = normalized(frames, training_names)
    FrameStore.write(hparams["frames_file"], frames, codec)


if __name__ == "__main__":
    main(sys.argv[1:])
