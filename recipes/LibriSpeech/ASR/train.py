"""Speech recognition from L3AC ids: an LSTM trained with CTC, as in DASB for other tokenizers.

    python extract.py hparams/lstm.yaml --data_folder LIBRISPEECH --cached_data_folder CACHE
    python train.py hparams/lstm.yaml --data_folder LIBRISPEECH --cached_data_folder CACHE

Run the same command again to resume after an interruption. `hparams/lstm_small.yaml` is sized for a CPU and an hour of
speech. Several processes: `torchrun --nproc_per_node=2 train.py hparams/lstm.yaml …`, on CPUs with
`--distributed_backend=gloo`.
"""

import os
import sys
from pathlib import Path

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from librispeech_prepare import prepare_librispeech
from speechbrain.dataio.dataset import DynamicItemDataset, add_dynamic_item, set_output_keys
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.decoders import ctc_greedy_decode
from speechbrain.decoders.ctc import CTCBeamSearcher
from speechbrain.tokenizers.SentencePiece import SentencePiece
from speechbrain.utils.distributed import if_main_process, run_on_main

from l3ac_tokenizer.logs import get_logger
from l3ac_tokenizer.speechbrain import FrameStore, IdStore, note_codec

logger = get_logger(__name__)


class ASR(sb.Brain):
    """Speech recognizer: ids → LSTM → CTC."""

    def compute_forward(self, batch, stage):
        """Inputs (B, N) or (B, N, F) → log-probabilities (B, N', units), lengths and, in evaluation, words."""
        batch = batch.to(self.device)
        inputs, lengths = batch.inputs
        features, lengths = self.modules.frontend(inputs, lengths)
        if stage == sb.Stage.TRAIN and self.hparams.drop_spans:
            features = self.hparams.feature_drop(features)
        encoded, _ = self.modules.encoder(features, lengths=lengths)
        log_probs = self.hparams.log_softmax(self.modules.ctc_lin(encoded)[..., : self.tokenizer.sp.vocab_size()])
        words = None
        if stage == sb.Stage.VALID:
            sequences = ctc_greedy_decode(log_probs, lengths, blank_id=self.hparams.blank_index)
            words = [self.tokenizer.sp.decode_ids(sequence).split() for sequence in sequences]
        elif stage == sb.Stage.TEST:
            words = [hypotheses[0].text.split() for hypotheses in self.searcher(log_probs, lengths)]
        return log_probs, lengths, words

    def compute_objectives(self, predictions, batch, stage):
        """Return the CTC loss and, in evaluation, count word and character errors."""
        log_probs, lengths, words = predictions
        units, unit_lengths = batch.units
        if words is not None:
            targets = [text.split() for text in batch.wrd]
            self.wer_metric.append(batch.id, words, targets)
            self.cer_metric.append(batch.id, words, targets)
        return self.hparams.ctc_cost(log_probs, units, lengths, unit_lengths)

    def on_stage_start(self, stage, epoch):
        """Reset the error counts."""
        if stage != sb.Stage.TRAIN:
            self.cer_metric = self.hparams.cer_computer()
            self.wer_metric = self.hparams.wer_computer()

    def on_stage_end(self, stage, stage_loss, epoch):
        """Log, anneal the learning rate, and keep the best and the last checkpoint."""
        stats = {"loss": stage_loss}
        if stage == sb.Stage.TRAIN:
            self.train_stats = stats
            return
        stats["CER"] = self.cer_metric.summarize("error_rate")
        stats["WER"] = self.wer_metric.summarize("error_rate")
        if stage == sb.Stage.VALID:
            lr, new_lr = self.hparams.scheduler(stats["loss"])
            sb.nnet.schedulers.update_learning_rate(self.optimizer, new_lr)
            self.hparams.train_logger.log_stats(
                stats_meta={"epoch": epoch, "lr": lr}, train_stats=self.train_stats, valid_stats=stats
            )
            self.checkpointer.save_and_keep_only(meta={"WER": stats["WER"], "epoch": epoch}, min_keys=["WER"])
        else:
            self.hparams.train_logger.log_stats(
                stats_meta={"epoch loaded": self.hparams.epoch_counter.current, "split": self.split}, test_stats=stats
            )
            if if_main_process():
                for name, metric in (("wer", self.wer_metric), ("cer", self.cer_metric)):
                    path = Path(self.hparams.output_folder, f"{name}_{self.split}.txt")
                    with open(path, "w", encoding="utf-8") as file:
                        metric.write_stats(file)


def dataio_prepare(hparams, tokenizer):
    """Return the datasets of inputs and text units, and the samplers that batch them by length.

    Raises:
        ValueError: There are fewer batches than processes, or `input_size` does not match the inputs.
    """
    if hparams["inputs"] == "ids":
        store, input_size = IdStore(hparams["tokens_folder"], hparams["codec"]), None
    else:
        store = FrameStore(hparams["frames_file"], hparams["codec"])
        input_size = store.width
    if hparams["input_size"] != input_size:
        raise ValueError(
            f"`input_size` is {hparams['input_size']}; it must be {input_size} for inputs={hparams['inputs']}."
        )

    def dataset(csv_path, reverse=False):
        data = DynamicItemDataset.from_csv(csv_path, replacements={"data_root": hparams["data_folder"]})
        known = set(store.known(data.data_ids, csv_path))
        return data.filtered_sorted(key_test={"id": known.__contains__}, sort_key="duration", reverse=reverse)

    train, valid = dataset(hparams["train_csv"]), dataset(hparams["valid_csv"])
    tests = {Path(path).stem: dataset(path, reverse=True) for path in hparams["test_csv"]}
    datasets = [train, valid, *tests.values()]

    @sb.utils.data_pipeline.takes("id")
    @sb.utils.data_pipeline.provides("inputs")
    def inputs_pipeline(id):
        return store[id]

    @sb.utils.data_pipeline.takes("wrd")
    @sb.utils.data_pipeline.provides("units")
    def text_pipeline(wrd):
        return torch.tensor(tokenizer.sp.encode_as_ids(wrd))

    add_dynamic_item(datasets, inputs_pipeline)
    add_dynamic_item(datasets, text_pipeline)
    set_output_keys(datasets, ["id", "inputs", "wrd", "units"])

    def sampler(data, options):
        return DynamicBatchSampler(data, length_func=lambda row: row["duration"], **options)

    train_sampler = sampler(train, hparams["dynamic_batch_sampler_train"])
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if 1 < processes >= len(train_sampler):  # SpeechBrain cannot handle a single batch for each process
        raise ValueError(
            f"{hparams['train_csv']} has {len(train)} utterances in {len(train_sampler)} batches, too few for "
            f"{processes} processes: give more utterances, a lower max_batch_length_train, or fewer processes."
        )
    return train, valid, tests, train_sampler, sampler(valid, hparams["dynamic_batch_sampler_val"])


def unit_names(tokenizer, output_neurons):
    """Return the text unit of each network output; outputs beyond the units are never used.

    Raises:
        ValueError: There are more units than outputs.
    """
    count = tokenizer.sp.vocab_size()
    if count > output_neurons:
        raise ValueError(
            f"The training text has {count} units, but the network has {output_neurons} outputs: give "
            f"--output_neurons={count}."
        )
    return [tokenizer.sp.id_to_piece(i) for i in range(count)]


def main(argv):
    """Train, then test the epoch with the lowest WER."""
    hparams_file, run_opts, overrides = sb.parse_arguments(argv)
    sb.utils.distributed.ddp_init_group(run_opts)
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"], hyperparams_to_save=hparams_file, overrides=overrides
    )
    run_on_main(prepare_librispeech, kwargs=hparams["prepare"])
    tokenizer = SentencePiece(
        model_dir=hparams["save_folder"],  # in the run, which cannot be used without the units
        vocab_size=hparams["output_neurons"],
        annotation_train=hparams["train_csv"],
        annotation_read="wrd",
        model_type=hparams["token_type"],
        character_coverage=hparams["character_coverage"],
        bos_id=hparams["bos_index"],
        eos_id=hparams["eos_index"],
    )
    train, valid, tests, train_sampler, valid_sampler = dataio_prepare(hparams, tokenizer)
    run_on_main(
        note_codec, args=[hparams["save_folder"], hparams["codec"]]
    )  # `dataio_prepare` has checked that the ids come from it

    brain = ASR(
        modules=hparams["modules"],
        opt_class=hparams["model_opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    parameters = sum(parameter.numel() for parameter in brain.modules.parameters())
    hparams["train_logger"].log_stats({"million parameters": f"{parameters / 1e6:.2f}"})
    brain.tokenizer = tokenizer
    brain.searcher = CTCBeamSearcher(
        **hparams["test_beam_search"], vocab_list=unit_names(tokenizer, hparams["output_neurons"])
    )
    brain.train_sampler = train_sampler  # knows the epoch, so that a resumed run continues with the right batches
    workers = {"num_workers": hparams["num_workers"]}
    brain.fit(
        brain.hparams.epoch_counter,
        train,
        valid,
        train_loader_kwargs={"batch_sampler": train_sampler, **workers},
        valid_loader_kwargs={"batch_sampler": valid_sampler, **workers},
    )
    for name, data in tests.items():
        brain.split = name
        brain.evaluate(data, min_key="WER", test_loader_kwargs=hparams["test_dataloader_opts"])


if __name__ == "__main__":
    main(sys.argv[1:])
