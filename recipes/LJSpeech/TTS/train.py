"""Text-to-speech on L3AC ids: a transformer from characters to ids, after DASB's Tokotron.

    python extract.py hparams/transformer.yaml --data_folder LJSPEECH --cached_data_folder CACHE
    python train.py hparams/transformer.yaml --data_folder LJSPEECH --cached_data_folder CACHE
    python evaluate.py hparams/transformer.yaml --data_folder LJSPEECH --cached_data_folder CACHE

Run the same command again to resume after an interruption. `hparams/transformer_small.yaml` is sized for a CPU and an
hour of speech. Several processes: `torchrun --nproc_per_node=2 train.py hparams/transformer.yaml …`, on CPUs with
`--distributed_backend=gloo`.
"""

import os
import random
import sys
from pathlib import Path

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from ljspeech_prepare import prepare_ljspeech
from speechbrain.dataio.dataset import DynamicItemDataset, add_dynamic_item, set_output_keys
from speechbrain.utils.distributed import if_main_process, run_on_main

from l3ac_tokenizer import CodecModel
from l3ac_tokenizer.audio import write_audio
from l3ac_tokenizer.inference import decode_clips
from l3ac_tokenizer.logs import get_logger
from l3ac_tokenizer.speechbrain import IdStore, note_codec
from l3ac_tokenizer.speechbrain.tts import gate_targets

logger = get_logger(__name__)


class TTS(sb.Brain):
    """Text-to-speech model: characters → ids, with an end-of-clip gate."""

    def compute_forward(self, batch, stage):
        """Compute the likelihood of the ids of each text."""
        batch = batch.to(self.device)
        return self.modules.model(*batch.characters, *batch.ids)

    def compute_objectives(self, predictions, batch, stage):
        """Return the loss: nats per id, gate loss and, in the first epochs, guided attention."""
        ids, lengths = batch.ids
        counts = (lengths * ids.shape[1]).round()
        nats = predictions.nats.sum() / counts.sum()
        targets = gate_targets(counts, ids.shape[1] + 1)
        counted = ~targets.isnan()
        gate = torch.nn.functional.binary_cross_entropy_with_logits(
            predictions.gate[counted],
            targets[counted],
            pos_weight=torch.tensor(self.hparams.gate_positive_weight, device=self.device),
        )
        loss = nats + self.hparams.gate_loss_weight * gate
        guided = self.guided_attention_loss(predictions, batch)
        if self.hparams.epoch_counter.current <= self.hparams.guided_attention_epochs:
            loss = loss + self.hparams.guided_attention_weight * guided
        for name, value in (("nats", nats), ("gate", gate), ("guided", guided)):
            self.sums[name] = self.sums.get(name, 0.0) + value.item() * len(ids)
        self.count += len(ids)
        return loss

    def guided_attention_loss(self, predictions, batch):
        """Return the loss for attention to the text away from the diagonal."""
        characters, character_lengths = batch.characters
        ids, lengths = batch.ids
        return self.hparams.guided_attention(
            predictions.alignments,
            (character_lengths * characters.shape[1]).round().long(),
            (lengths * ids.shape[1]).round().long() + 1,
        )

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Update the learning rate after every step."""
        if should_step:
            self.hparams.lr_annealing(self.optimizer)

    def on_stage_start(self, stage, epoch):
        """Reset the means of the losses."""
        self.sums, self.count = {}, 0

    def on_stage_end(self, stage, stage_loss, epoch):
        """Log, keep the best and the last checkpoint, and write samples."""
        stats = {"loss": stage_loss, **{name: value / self.count for name, value in self.sums.items()}}
        if stage == sb.Stage.TRAIN:
            self.train_stats = stats
            return
        lr = self.optimizer.param_groups[0]["lr"]
        self.hparams.train_logger.log_stats(
            stats_meta={"epoch": epoch, "lr": lr}, train_stats=self.train_stats, valid_stats=stats
        )
        self.checkpointer.save_and_keep_only(meta={"nats": stats["nats"], "epoch": epoch}, min_keys=["nats"])
        interval = self.hparams.samples_interval
        if interval and epoch % interval == 0 and if_main_process():
            self.write_samples(Path(self.hparams.output_folder, "samples", f"epoch_{epoch:03d}"))

    def write_samples(self, folder):
        """Synthesize some texts of the validation set."""
        folder.mkdir(parents=True, exist_ok=True)
        for row in self.samples:
            audio, _ = speak(self.modules.model, self.codec, row["characters"], self.hparams)
            write_audio(folder / f"{row['id']}.flac", audio, self.codec.config.sampling_rate)


@torch.no_grad()
def speak(model, codec, characters, hparams, generator=None):
    """Synthesize characters (S,): return audio (T,) and the generated ids with their attention."""
    model = getattr(model, "module", model).eval()
    device = next(model.parameters()).device
    spoken = model.speak(
        characters[None].to(device),
        torch.ones(1, device=device),
        round(hparams.max_seconds * codec.config.frame_rate),
        hparams.temperature,
        hparams.top_p,
        hparams.gate_threshold,
        generator,
    )[0]
    ids = spoken.ids.cpu().numpy()
    return decode_clips(codec, [ids], [len(ids) * codec.config.hop_length], "clip")[0], spoken


def dataio_prepare(hparams):
    """Return the datasets of characters and ids by split.

    Raises:
        ValueError: There are too few clips for a batch in each process.
    """
    store = IdStore(hparams["tokens_folder"], hparams["codec"])

    def is_speakable(wrd):
        return len(hparams["characters"](wrd)) > 0

    datasets = {}
    for name in ("train", "valid", "test"):
        path = hparams[f"{name}_csv"]
        data = DynamicItemDataset.from_csv(path, replacements={"data_root": hparams["data_folder"]})
        known = set(store.known(data.data_ids, path))
        key_test = {"id": known.__contains__, "wrd": is_speakable}
        datasets[name] = data.filtered_sorted(key_test=key_test, sort_key="duration")
        if silent := len(known) - len(datasets[name]):
            logger.warning(
                "%s: skipped %d of %d texts without any character of the alphabet.", path, silent, len(known)
            )
    needed = hparams["batch_size"] * int(os.environ.get("WORLD_SIZE", 1))
    if len(datasets["train"]) < needed:
        raise ValueError(
            f"{hparams['train_csv']} has {len(datasets['train'])} clips, but a step of all processes needs {needed}: "
            "give more clips, a lower batch_size, or fewer processes."
        )

    @sb.utils.data_pipeline.takes("id")
    @sb.utils.data_pipeline.provides("ids")
    def ids_pipeline(id):
        return store[id]

    @sb.utils.data_pipeline.takes("wrd")
    @sb.utils.data_pipeline.provides("characters")
    def text_pipeline(wrd):
        return hparams["characters"](wrd)

    every = list(datasets.values())
    add_dynamic_item(every, ids_pipeline)
    add_dynamic_item(every, text_pipeline)
    set_output_keys(every, ["id", "wrd", "ids", "characters"])
    return datasets


def some_of(count, most, seed):
    """Draw the indices of at most `most` of `count` clips (None: all); the first clips are the shortest."""
    return sorted(random.Random(seed).sample(range(count), count if most is None else min(count, most)))


def load_hparams(argv):
    """Load the YAML file, with overrides from the command line.

    Raises:
        ValueError: `num_characters` does not match the alphabet.
    """
    hparams_file, run_opts, overrides = sb.parse_arguments(argv)
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    if hparams["num_characters"] != len(hparams["characters"]):
        raise ValueError(
            f"`num_characters` is {hparams['num_characters']}; it must be {len(hparams['characters'])}, the size of "
            "the alphabet with padding."
        )
    return hparams_file, hparams, run_opts, overrides


def main(argv):
    """Train the model; `evaluate.py` tests it."""
    _, run_opts, _ = sb.parse_arguments(argv)
    sb.utils.distributed.ddp_init_group(run_opts)
    hparams_file, hparams, run_opts, overrides = load_hparams(argv)
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"], hyperparams_to_save=hparams_file, overrides=overrides
    )
    run_on_main(prepare_ljspeech, kwargs=hparams["prepare"])
    datasets = dataio_prepare(hparams)
    run_on_main(
        note_codec, args=[hparams["save_folder"], hparams["codec"]]
    )  # `dataio_prepare` has checked that the ids come from it
    brain = TTS(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    parameters = sum(parameter.numel() for parameter in brain.modules.parameters())
    hparams["train_logger"].log_stats({"million parameters": f"{parameters / 1e6:.2f}"})
    brain.codec = CodecModel.from_pretrained(hparams["codec"]).eval().to(brain.device)
    valid = datasets["valid"]
    brain.samples = [valid[number] for number in some_of(len(valid), hparams["num_samples"], hparams["seed"])]
    brain.fit(
        brain.hparams.epoch_counter,
        datasets["train"],
        datasets["valid"],
        train_loader_kwargs=hparams["train_dataloader_opts"],
        valid_loader_kwargs=hparams["valid_dataloader_opts"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
