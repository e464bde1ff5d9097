"""Evaluation of a trained run on unseen texts: audio files, word error rates, and a listening page.

    python evaluate.py hparams/transformer_small.yaml --data_folder LJSPEECH --cached_data_folder CACHE \
        --recognizer tokens:ASR_RUN

It takes the YAML file and the arguments of `train.py`, and writes into `<output_folder>/eval_<split>`: the generated
clips, `index.html`, `results.json`, and the alignments of the recognized words. The reference of WER is the text; that
of dWER is the words recognized in the recording, as in DASB.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import soxr
import torch
from speechbrain.utils.distributed import infer_device
from speechbrain.utils.metric_stats import ErrorRateStats
from tqdm import tqdm
from train import dataio_prepare, load_hparams, some_of, speak

from l3ac_tokenizer import CodecModel
from l3ac_tokenizer.asr import normalized_words, open_recognizer
from l3ac_tokenizer.audio import read_audio, write_audio
from l3ac_tokenizer.evaluation.scorers.speaker import open_embedder
from l3ac_tokenizer.files import atomic_write
from l3ac_tokenizer.inference import decode_clips
from l3ac_tokenizer.logs import get_logger
from l3ac_tokenizer.markup import printable
from l3ac_tokenizer.names import file_within, path_component, public_name
from l3ac_tokenizer.speechbrain import check_run
from l3ac_tokenizer.speechbrain.page import SynthesizedClip, write_page, write_picture
from l3ac_tokenizer.speechbrain.recognition import TokenRecognizer

logger = get_logger(__name__)

HEARING_RATE = 16_000
"""Sampling rate of the input of recognizers and speaker embeddings, in Hz."""

KINDS = ("generated", "codec", "recording")
"""Kinds of scored audio: speech generated from the text, the recording after the codec, and the recording.

The recognizer `tokens:RUN` reads the ids of the first and the last directly, and encodes the audio of the second
again."""


class Scores:
    """Word errors and speaker similarities of each kind of audio."""

    def __init__(self, recognizer, embed):
        self.recognizer = recognizer
        self.embed = embed
        self.wer = {kind: ErrorRateStats() for kind in KINDS}
        self.cer = {kind: ErrorRateStats(split_tokens=True) for kind in KINDS}
        self.dwer = {kind: ErrorRateStats() for kind in KINDS[:-1]}
        self.similarities = {kind: [] for kind in KINDS[:-1]}

    def hear(self, wave, ids):
        """Recognize a clip (T,) at 16 kHz, or its ids (N,) if they are given and the recognizer reads ids."""
        if ids is not None and isinstance(self.recognizer, TokenRecognizer):
            return self.recognizer.recognize_ids(ids)
        return self.recognizer(wave)

    def add(self, name, text, waves, ids):
        """Score the clips (T,) at 16 kHz and ids (N,) of one text, and return the recognized words; all by kind."""
        heard = {kind: self.hear(waves[kind], ids.get(kind)) for kind in KINDS}
        words = {kind: normalized_words(heard[kind]) for kind in KINDS}
        for kind in KINDS:
            for metric in (self.wer, self.cer):
                metric[kind].append([name], [words[kind]], [normalized_words(text)])
        for kind in KINDS[:-1]:
            self.dwer[kind].append([name], [words[kind]], [words["recording"]])
            if self.embed is not None:
                self.similarities[kind].append(float(self.embed(waves[kind]) @ self.embed(waves["recording"])))
        return heard

    def results(self):
        """Return error rates in percent and mean similarities by kind."""
        table = {kind: {} for kind in KINDS}
        for name, metrics in (("WER", self.wer), ("CER", self.cer), ("dWER", self.dwer)):
            for kind, metric in metrics.items():
                table[kind][name] = metric.summarize("error_rate")
        for kind, values in self.similarities.items():
            if values:
                table[kind]["speaker similarity"] = float(np.mean(values))
        return table

    def write_alignments(self, folder):
        """Write the word alignments, in the format of SpeechBrain."""
        for kind, metric in self.wer.items():
            with open(folder / f"wer_{kind}.txt", "w", encoding="utf-8") as file:
                metric.write_stats(file)


def make_recognizer(name, codec, device, trust):
    """Open the recognizer of the recipe for `tokens:RUN`, which reads ids of the codec, or another one by name."""
    kind, _, run = name.partition(":")
    return TokenRecognizer(run, device, trust=trust, codec=codec) if kind == "tokens" else open_recognizer(name, device)


def main(argv):
    """Generate speech, score it, and write the results.

    Raises:
        ValueError: `output_folder` has no checkpoint.
    """
    _, hparams, run_opts, _ = load_hparams(argv)
    device = run_opts["device"] or infer_device()
    if hparams["checkpointer"].recover_if_possible(min_key="nats") is None:
        raise ValueError(f"{hparams['output_folder']} has no checkpoint: run train.py with the same arguments first.")
    model = hparams["model"].eval().to(device)
    check_run(hparams["save_folder"], hparams["codec"])
    codec = CodecModel.from_pretrained(hparams["codec"]).eval().to(device)
    rate = codec.config.sampling_rate
    data = dataio_prepare(hparams)[hparams["eval_split"]]
    data.set_output_keys(["id", "wrd", "wav", "ids", "characters"])
    numbers = some_of(len(data), hparams["eval_clips"], hparams["seed"])
    speaker_model = hparams["speaker_model"]
    scores = Scores(
        make_recognizer(hparams["recognizer"], hparams["codec"], device, hparams["trust"]),
        open_embedder(speaker_model, device, trust=hparams["trust"]) if speaker_model else None,
    )
    folder = Path(hparams["output_folder"], f"eval_{hparams['eval_split']}")
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    generator = torch.Generator(device).manual_seed(hparams["seed"])
    settings = type("Settings", (), hparams)
    clips, finished = [], 0
    for number in tqdm(numbers, disable=None):
        row = data[number]
        name, text = row["id"], row["wrd"]
        generated, spoken = speak(model, codec, row["characters"], settings, generator)
        file = os.path.abspath(row["wav"])
        file = file_within(file, hparams["data_folder"], allow_outside=hparams["allow_outside"])
        recording, _ = read_audio(file, rate)
        waves = {
            "generated": generated,
            "codec": decode_clips(codec, [row["ids"].numpy()], [len(recording)], "clip")[0],
            "recording": recording,
        }
        audio = {kind: f"clips/{path_component(name)}_{kind}.flac" for kind in KINDS}
        for kind, path in audio.items():
            write_audio(folder / path, waves[kind], rate)
        picture = f"clips/{path_component(name)}.png"
        alignment = spoken.alignment.cpu().numpy()
        drawn = write_picture(folder / picture, generated, rate, alignment, hparams["characters"].known(text))
        finished += spoken.finished
        heard_at = {kind: soxr.resample(wave, rate, HEARING_RATE) for kind, wave in waves.items()}
        heard = scores.add(name, text, heard_at, {"generated": spoken.ids, "recording": row["ids"]})
        clips.append(SynthesizedClip(name, text, audio, heard, picture if drawn else None))

    results = {
        "recognizer": scores.recognizer.label,
        "clips": len(clips),
        "ended by the gate": finished,
        "temperature": hparams["temperature"],
        "top_p": hparams["top_p"],
        "seed": hparams["seed"],
        "scores": scores.results(),
    }
    with atomic_write(folder / "results.json") as file:
        file.write(json.dumps(results, indent=2).encode())
    scores.write_alignments(folder)
    shown = {name: str(value) for name, value in results.items() if name != "scores"}
    for kind, values in results["scores"].items():
        shown[kind] = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
    page = write_page(folder, f"Text to speech on {public_name(hparams['codec'])} ids", shown, clips)
    print("\n".join(printable(f"{name}: {value}") for name, value in shown.items()))
    print(printable(f"Listen: {page}"))


if __name__ == "__main__":
    main(sys.argv[1:])
