"""The training loop, from configuration and audio to a checkpoint directory.

A run folder contains `config.yaml`, `state/` (training states), `log.jsonl`, `tensorboard/`, `corpus/` (a small corpus,
decoded), `best/` (the checkpoint with the best score on the held-out clips, if there are any) and, once the run has
ended, `export/`.

With several processes each has its own micro-batches; gradients are averaged, and optimizers, schedule and averaged
weights are the same in all. Whatever depends on a single micro-batch stays with its process: loss clamps, whitening
statistics, the floor of the perceptual loss. So P processes with m micro-batches per update equal one process with
P x m, except for gradient clipping inside the accumulation and the running averages of the whitening, which are those
of the first process.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, parse_flag_from_env
from torch import Tensor, nn
from tqdm import tqdm

from ..listing.errors import DataError
from ..logs import get_logger
from .card import source_table
from .config import ConfigError, TrainingConfig
from .data.loader import BatchLoader
from .data.prepare import prepare_audio
from .data.sampler import Batch, CropSampler, Request, WorkerDied
from .discriminator_trainer import DiscriminatorTrainer
from .ema import AveragedWeights
from .evaluator import STATISTICS_CLIPS, STATISTICS_SECONDS, Evaluator
from .export import recover_export
from .network import TrainableCodec, build_codec
from .objective import Objective
from .optimizer import Optimizer
from .schedule import CONSTANT_BETA, RESOLUTION, CyclePoint, one_cycle
from .stages import MEL_STAGES
from .state import Counters, load_state, remove_unfinished, save_state, saved_states
from .tracking import Figures, RunLog, keep_settings, plain_settings

logger = get_logger(__name__)

MOST_SKIPPED = 50
"""Successive updates that may be skipped for overflows in float16; each halves the loss scale, which starts at 2^16."""


class TrainingError(RuntimeError):
    """Training cannot continue; the message says why, and where the last good training state is."""


class Run:
    """One training run.

    Args:
        config: Configuration of the run.
        sources: Dataset roots, folders and manifests of audio to train on.
        run_folder: Folder of the run; a training state in it is resumed.
        held_out: Like `sources`, for audio that is held out in addition to that which `config.holdout` selects.

    Raises:
        ConfigError: The configuration does not fit the network, or Accelerate is configured for sharded training.
        DataError: A source is missing, empty or mostly unusable.
        TrainingError: The training state in the folder belongs to other networks.
    """

    def __init__(
        self,
        config: TrainingConfig,
        sources: Sequence[str | Path],
        run_folder: str | Path,
        held_out: Sequence[str | Path] = (),
    ):
        _refuse_sharding()
        self.config = config
        self.folder = Path(run_folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        project = ProjectConfiguration(str(self.folder), logging_dir=str(self.folder / "tensorboard"))
        self.accelerator = Accelerator(
            mixed_precision=config.mixed_precision, log_with=config.tracker, project_config=project
        )
        if self._is_main:
            self._clear_up()
        bfloat16 = self.accelerator.mixed_precision == "bf16"
        self.objective = Objective(config, bfloat16=bfloat16).to(self.accelerator.device)  # first, as it may be missing
        self.codec: TrainableCodec = build_codec(config).to(self.accelerator.device)
        self.sampling_rate = self.codec.model.config.sampling_rate
        with self.accelerator.main_process_first():  # it decodes the corpus, the others open it
            corpus, clips, held = prepare_audio(config, sources, held_out, self.folder / "corpus", self.sampling_rate)
        self.sampler = CropSampler(corpus, clips, config.domains, config.augment, config.seed)
        self.loader = BatchLoader(self.sampler, config, self.sampling_rate, self.accelerator)
        self.sources = source_table(clips, corpus, config.manifest)
        self.optimizer = Optimizer(
            self.accelerator,
            self.codec,
            weight_decay=config.weight_decay,
            clip_norm=config.clip_norm,
            muon=config.muon,
        )
        self.discriminator = (
            DiscriminatorTrainer(config.discriminator, self.accelerator, config.seed, config.init_from)
            if config.discriminator is not None
            else None
        )
        if self.codec.unstandardized is not None:
            request = Request(0, 0, STATISTICS_CLIPS, round(STATISTICS_SECONDS * self.sampling_rate))
            self.codec.standardize(self._whole_frames(self.sampler[request].samples).to(self.accelerator.device))
        self.average = AveragedWeights(self.codec, config.ema_decay)
        self.counters = Counters()
        self.log = RunLog(self.accelerator, self.folder)
        self._resume()
        values, audio = dataclasses.asdict(config), {"data": _absolute(sources), "held_out": _absolute(held_out)}
        if self._is_main:
            changed = keep_settings(self.folder / "config.yaml", values, audio)
            if changed and self.counters.step:
                logger.warning("resumed with other values than before: %s", ", ".join(changed))
        if self.objective.features is None:
            config = dataclasses.replace(config, perceptual_encoder=None)  # for the model card
        teacher = None if self.objective.teacher is None else self.objective.teacher.model
        self.evaluator = Evaluator(config, self.accelerator, self.sampler, held, self.sampling_rate, self.log, teacher)
        self.forward = self.accelerator.prepare_model(self.codec)
        self.compiled_forward = torch.compile(self.forward, dynamic=False)
        self.accelerator.init_trackers("l3ac", config=plain_settings(audio | values))

    # ---------------------------------------------------------------------------------------------- the run

    def train(self) -> bool:
        """Train to the end of the schedule and export; SIGINT and SIGTERM save the training state and stop before that.

        Returns:
            True if the run has ended, False if it was interrupted.

        Raises:
            TrainingError: A loss is not finite, a worker died, or too many files are unusable.
        """
        self._stop = self._asked_to_stop = False
        self._session_start = time.monotonic() - self.counters.minutes * 60
        self._saved = self.counters.minutes
        previous = {number: signal.signal(number, self._request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return self._train()
        except DataError as error:
            reason = str(error).strip().rpartition("DataError: ")[2]  # torch puts a worker's traceback before it
            remedy = "try fewer --workers" if isinstance(error, WorkerDied) else "check the audio"
            raise TrainingError(f"{reason}: {self._last_state()}; {remedy}.") from error
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            self._release()

    def _train(self) -> bool:
        config, counters = self.config, self.counters
        figures = Figures(self.codec.model.config.frame_levels, counters.audio_seconds)
        bar = tqdm(total=config.max_steps, initial=counters.step, unit="step", disable=not self._is_main)
        with closing(self.loader.groups(counters, self._progress_at)) as groups, bar:
            while self.progress < 1.0 and not self._stop:
                self._update(next(groups), figures)
                bar.update()
                self._agree()
                if counters.step % config.log_every == 0:
                    record = figures.take(self.accelerator, counters.audio_seconds)
                    self._log(record)
                    hours = f"{counters.audio_seconds / 3600:.2f}"
                    bar.set_postfix(loss=f"{record['loss']:.3f}", hours=hours, left=self._time_left())
                if self.evaluator.held_out and counters.minutes - counters.evaluated >= config.evaluate_every_minutes:
                    self._evaluate()
                if counters.minutes - self._saved >= config.save_every_minutes:
                    self._save()
        if figures.values:  # updates since the last record
            self._log(figures.take(self.accelerator, counters.audio_seconds))
        self._save()
        if self._stop:
            logger.info("stopped at step %d; the same command resumes it", counters.step)
            return False
        self._evaluate(export_as="export")
        self.accelerator.wait_for_everyone()
        return True

    @property
    def progress(self) -> float:
        """Fraction of the run that is over, 0 to 1, by steps or minutes, whichever is larger."""
        return self._progress_at(self.counters.step)

    def _progress_at(self, step: int) -> float:
        by_steps = step / self.config.max_steps if self.config.max_steps else 0.0
        by_minutes = self.counters.minutes / self.config.max_minutes if self.config.max_minutes else 0.0
        return min(1.0, max(by_steps, by_minutes))

    def _agree(self) -> None:
        """Synchronize the clock and the request to stop among the processes, which must all do the same."""
        minutes = (time.monotonic() - self._session_start) / 60
        self.counters.minutes, stop = self._greatest(minutes, float(self._asked_to_stop))
        self._stop = bool(stop)

    def _greatest(self, *values: float) -> list[float]:
        """The maximum of each value over the processes."""
        numbers = torch.tensor(values, dtype=torch.float64)
        if self.accelerator.num_processes > 1:
            numbers = numbers.to(self.accelerator.device)
            torch.distributed.all_reduce(numbers, op=torch.distributed.ReduceOp.MAX)
        return numbers.tolist()

    # ------------------------------------------------------------------------------------------- one update

    def _update(self, group: list[Batch], figures: Figures) -> None:
        """Update the discriminator if it is due, on its own micro-batches or the codec's, then the codec."""
        counters, progress = self.counters, self.progress
        phase = self.config.phases[group[0].request.phase]
        # As published, the first update already has one factor.
        decayed = self.config.reconstruction_decay ** (counters.step + 1)
        weights = (phase.weights or self.config.weights).with_reconstruction(decayed)
        audio = [batch.samples.to(self.accelerator.device, non_blocking=True) for batch in group]
        count = self.config.accumulation
        discriminator = self.discriminator if weights.adversarial_max else None
        if discriminator is not None and not discriminator.active(progress):
            discriminator = None
        if discriminator is not None and discriminator.options.is_due(counters.step):
            self.codec.eval()
            torch.manual_seed(hash((self.config.seed, group[0].request.first, 1)))  # seeds the excerpts
            references = [samples.squeeze(1) for samples in audio[:count]]
            figures.add(**discriminator.update(references, self._without_noise, progress))
        objective = partial(self.objective, weights=weights, discriminator=discriminator)
        forward = self.compiled_forward if phase.compile else self.forward
        firsts = [batch.request.first for batch in group[-count:]]
        self._update_codec(audio[-count:], firsts, forward, objective, figures)
        processes = self.accelerator.num_processes
        counters.items += sum(len(samples) for samples in audio) * processes
        counters.audio_seconds += sum(samples.numel() for samples in audio) / self.sampling_rate * processes
        counters.step += 1

    @torch.no_grad()
    def _without_noise(self, x: Tensor) -> Tensor:
        """Output (B, T) of the codec for audio (B, T), on which the discriminator is trained."""
        audio = self.codec(x.unsqueeze(1)).audio
        assert audio is not None
        return audio.float()

    def _update_codec(
        self, audio: list[Tensor], firsts: list[int], forward: Callable, objective: Callable, figures: Figures
    ) -> None:
        """Update the codec on micro-batches (B, 1, T); `firsts` are the numbers of their first items."""
        config = self.config
        if config.schedule == "constant":
            point = CyclePoint(config.lr, CONSTANT_BETA)
        else:
            point = one_cycle(
                self.progress * (RESOLUTION - 1),
                peak=config.lr,
                div_factor=config.div_factor,
                final_div_factor=config.final_div_factor,
                pct_start=config.pct_start,
            )
        self.codec.train()
        self.optimizer.begin(point)
        checked = []
        for samples, first in zip(audio, firsts, strict=True):
            torch.manual_seed(hash((config.seed, first)))  # seeds the quantizer's noise
            if config.stage in MEL_STAGES:
                samples = self._whole_frames(samples)
            prediction = forward(samples)
            x = samples.squeeze(1)
            loss, terms = objective(prediction, x)
            norm = self.optimizer.add(loss / len(audio))
            figures.add(loss=loss, **terms, lr=point.lr, gradient_norm=norm)
            figures.add_prediction(x, prediction)
            checked += [loss.detach(), norm] if self.accelerator.scaler is None else [loss.detach()]
        self._require_finite(torch.stack(checked))
        self.optimizer.step()
        if self.optimizer.skipped >= MOST_SKIPPED:
            raise TrainingError(
                f"The gradients overflowed in float16 at {self.optimizer.skipped} updates in a row: "
                f"{self._last_state()}; try a lower --lr or --mixed-precision bf16."
            )
        self.average.update(self.codec)

    def _require_finite(self, values: Tensor) -> None:
        """Stop all processes if any has a value that is not finite; the others would wait for it."""
        (broken,) = self._greatest(float(not values.isfinite().all()))
        if broken:
            raise TrainingError(
                f"The loss or its gradient is not finite at step {self.counters.step}: {self._last_state()}; try a "
                "lower --lr or another --seed."
            )

    def _last_state(self) -> str:
        folder = self.folder / "state"
        return f"the last good state is in {folder}" if saved_states(folder) else "no state had been saved"

    # ------------------------------------------------------------------------------------- score, save, log

    def _evaluate(self, export_as: str | None = None) -> None:
        """Score the averaged weights; export them as `best` if they are the best so far, and as `export_as`."""
        counters = self.counters
        candidate = self.evaluator.averaged(self.codec, self.average)
        scores = self.evaluator.score(counters.step, candidate)
        if scores:
            self._log({f"held_out/{name}": value for name, value in scores.items()})
        self._agree()
        counters.evaluated = counters.minutes
        better = scores.get("score", -math.inf) > counters.best
        # `export` is last: a chain takes it as the sign that the run has ended.
        names = [*(["best"] if better else []), *([export_as] if export_as else [])]
        training = (
            f"{counters.step} updates on {counters.audio_seconds / 3600:.2f} hours of crops, repetitions counted, in "
            f"{counters.minutes:.0f} minutes on {self.accelerator.num_processes} x {self.accelerator.device.type}; "
            "averaged weights."
        )
        for name in names:
            self.evaluator.write(
                self.folder / name, candidate, self._trained_discriminator, scores, training, self.sources
            )
        if better:
            counters.best = scores["score"]
            self._save()  # or a resumed run would replace them by worse ones

    @property
    def _trained_discriminator(self) -> nn.Module | None:
        """The discriminator's network, if this run has trained it."""
        discriminator = self.discriminator
        return discriminator.network if discriminator is not None and discriminator.optimizer.has_stepped else None

    def _save(self) -> None:
        self._saved = self.counters.minutes
        if self._is_main:
            state = {
                "codec": self.codec.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state_dict(),
                "counters": dataclasses.asdict(self.counters),
            }
            if self.discriminator is not None:
                state["discriminator"] = self.discriminator.state_dict()
            if self.accelerator.scaler is not None:
                state["scaler"] = self.accelerator.scaler.state_dict()
            save_state(self.folder / "state", self.counters.step, state)

    def _resume(self) -> None:
        state = load_state(self.folder / "state")
        if state is not None:
            try:
                self._take_up(state)
            except (RuntimeError, KeyError, ValueError) as error:  # the last two from optimizers
                if isinstance(error, RuntimeError) and "loading state_dict" not in str(error):
                    raise
                raise TrainingError(
                    f"The state in {self.folder / 'state'} belongs to other networks than the configuration's: resume "
                    "with the values of preset, model, stage, muon, weight_norm, whiten_latents and discriminator that "
                    "it began with, or name another --run."
                ) from error
            logger.info("resumed at step %d", self.counters.step)
        if self._is_main:
            self.log.forget_after(self.counters.step)

    def _take_up(self, state: dict[str, Any]) -> None:
        self.codec.load_state_dict(state["codec"])
        network = self.codec.model
        if self.config.stage == "decode" and network.encoder_digest() != network.config.encoder_digest:
            raise TrainingError(
                f"{self.config.init_from} has another encoder than when the run in {self.folder} began: name the one "
                "that it began with, or another --run."
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.counters = Counters(**state["counters"])
        if self.discriminator is not None:
            if "discriminator" in state:
                self.discriminator.load_state_dict(state["discriminator"])
            else:
                logger.warning("the state has no discriminator: it starts with fresh weights")
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _log(self, record: dict[str, float]) -> None:
        counters = self.counters
        where = {"minutes": counters.minutes, "hours_of_audio": counters.audio_seconds / 3600}
        self.log.write(counters.step, where | record)

    # ---------------------------------------------------------------------------------------------- helpers

    def _whole_frames(self, samples: Tensor) -> Tensor:
        """(B, 1, T) padded with zeros to a whole number of ids."""
        return F.pad(samples, (0, -samples.shape[-1] % self.codec.model.config.hop_length))

    def _clear_up(self) -> None:
        """Remove or restore what a killed session left unfinished."""
        for folder in (self.folder, self.folder / "state", self.folder / "corpus"):
            remove_unfinished(folder)
        for name in ("best", "export"):
            recover_export(self.folder / name)

    def _release(self) -> None:
        """Finish the trackers and free the wrappers, after which the run cannot train any further.

        The wrappers must be gone before the process group is, see `leave_process_group`.
        """
        del self.forward, self.compiled_forward
        if self.discriminator is not None:
            del self.discriminator.wrapped
        self.accelerator.free_memory()
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def _time_left(self) -> str:
        minutes = self.counters.minutes * (1 / max(self.progress, 1e-9) - 1)
        return f"{int(minutes // 60)}:{int(minutes % 60):02d} h"

    def _request_stop(self, *_: Any) -> None:
        self._asked_to_stop = True

    @property
    def _is_main(self) -> bool:
        return self.accelerator.is_main_process


def leave_process_group() -> None:
    """Destroy the process group, if there is one; call it after the last run of a process.

    Otherwise the group would end with the interpreter, and gloo's threads were seen to wait for Python while Python
    waited for them. A new group cannot be formed: the addresses of the old one stay in its store.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _refuse_sharding() -> None:
    """Refuse Accelerate's sharded modes: optimizers, clipping and averages need whole tensors."""
    for flag, name in (("FSDP", "FSDP"), ("DEEPSPEED", "DeepSpeed"), ("MEGATRON_LM", "Megatron-LM")):
        if parse_flag_from_env(f"ACCELERATE_USE_{flag}"):
            raise ConfigError(
                f"Accelerate is configured for {name}, which this recipe does not support: run `accelerate config` "
                "without it, or `accelerate launch --multi_gpu`."
            )


def _absolute(paths: Sequence[str | Path]) -> list[str]:
    return [str(Path(path).absolute()) for path in paths]
