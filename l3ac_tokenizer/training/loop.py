"""The training loop, from configuration and folders of audio to a checkpoint directory.

A run folder holds `corpus/` (decoded audio), `state/` (to resume from), `log.jsonl`, `tensorboard/`,
`best/` (the checkpoint directory that scored best on the held-out clips) and, once the run has ended,
`export/`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from ..atomic import atomic_write
from ..modeling import L3ACModel
from .card import model_card, source_table
from .config import Phase, TrainingConfig
from .data import BatchStream, Corpus, open_corpus, prefetched
from .ema import AveragedWeights
from .export import export_checkpoint, plain_model
from .network import TrainableCodec, build_codec
from .objective import Objective
from .schedule import RESOLUTION, one_cycle
from .state import load_state, save_state
from .validation import held_out_clips, validate

logger = logging.getLogger(__name__)

STATISTICS_CLIPS = 64
"""Training clips over which the statistics of averaged weights are taken; half of them for the time norms."""
STATISTICS_SECONDS = 2.0


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says why and where the last good checkpoint is."""


@dataclasses.dataclass
class Position:
    """Where a run stands; with the seed it decides everything that follows."""

    step: int = 0
    """Updates made."""
    items: int = 0
    """Items of the stream consumed, by all processes together."""
    audio_seconds: float = 0.0
    minutes: float = 0.0
    """Wall time spent in training, over all sessions."""
    best: float = -math.inf


class Figures:
    """What is logged of the micro-batches since the last log."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.ids: list[Tensor] = []

    def add(self, **values: Tensor | float) -> None:
        """Numbers to be averaged."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(value.item() if isinstance(value, Tensor) else value)

    def add_signals(self, x: Tensor, y: Tensor, ids: Tensor, latents: Tensor) -> None:
        """Level of reference and output (B, T), spread of the latents (B, N, L), ids (B, N)."""
        self.add(
            input_rms=x.square().mean().sqrt(),
            output_rms=y.float().square().mean().sqrt(),
            latents_std=latents.float().flatten(0, 1).std(0).mean(),
        )
        self.ids.append(ids.flatten())

    def take(self) -> dict[str, float]:
        """Averages, and the number of different ids among how many; starts anew."""
        ids = torch.cat(self.ids)
        record = {name: sum(values) / len(values) for name, values in self.values.items()}
        self.values, self.ids = {}, []
        return record | {"ids_in_use": float(ids.unique().numel()), "frames": float(ids.numel())}


class Run:
    """One training run: everything that is loaded, stepped, saved and scored together."""

    def __init__(self, config: TrainingConfig, folders: Sequence[str | Path], run_folder: str | Path):
        self.config = config
        self.folder = Path(run_folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.accelerator = Accelerator(
            mixed_precision=config.mixed_precision, log_with="tensorboard", project_dir=str(self.folder)
        )
        codec = build_codec(config)
        self.sampling_rate = codec.model.config.sampling_rate
        corpus, self.held_out = self._open_corpus(folders)
        self.stream = BatchStream(corpus, config.domains, config.augment, config.seed)
        self.codec: TrainableCodec = codec.to(self.accelerator.device)
        self.optimizer = torch.optim.AdamW(
            self.codec.parameters(), lr=config.lr, eps=1e-8, weight_decay=config.weight_decay, fused=True
        )
        self.objective = Objective(config).to(self.accelerator.device)
        self.average = AveragedWeights(self.codec, config.ema_decay)
        self.position = Position()
        self._resume()
        self.forward = self.accelerator.prepare_model(self.codec)
        self.compiled_forward = torch.compile(self.forward, dynamic=False)
        self.accelerator.init_trackers("tensorboard")

    # ---------------------------------------------------------------------------------------------- the run

    def train(self) -> None:
        """Run to the end of the schedule, then export; an interrupt or SIGTERM saves the state first."""
        self._stop = False
        previous = {number: signal.signal(number, self._request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._train()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            self.accelerator.end_training()

    def _train(self) -> None:
        config, position = self.config, self.position
        saved = evaluated = position.minutes
        session_start = time.monotonic() - position.minutes * 60
        logged_at, logged_seconds = time.monotonic(), position.audio_seconds
        figures = Figures()
        bar = tqdm(total=config.max_steps, initial=position.step, unit="step", disable=not self._is_main)
        batches = prefetched(self.stream, self._requests())
        while self.progress < 1.0 and not self._stop:
            self._update(batches, figures)
            position.minutes = (time.monotonic() - session_start) / 60
            bar.update()
            if position.step % config.log_every == 0:
                now, record = time.monotonic(), figures.take()
                record["audio_seconds_per_second"] = (position.audio_seconds - logged_seconds) / (now - logged_at)
                logged_at, logged_seconds = now, position.audio_seconds
                self._log(record)
                bar.set_postfix(
                    loss=f"{record['loss']:.3f}",
                    hours=f"{position.audio_seconds / 3600:.2f}",
                    left=self._time_left(),
                )
            if position.minutes - evaluated >= config.evaluate_every_minutes:
                self._evaluate()
                evaluated = position.minutes = (time.monotonic() - session_start) / 60
            if position.minutes - saved >= config.save_every_minutes:
                self._save()
                saved = position.minutes
        bar.close()
        if self._stop:
            self._save()
            logger.info("stopped at step %d; the same command resumes it", position.step)
            return
        self._evaluate(export_as="export")
        self._save()

    @property
    def progress(self) -> float:
        """Share of the run that is over, 0 to 1: by steps or by minutes, whichever is further."""
        by_steps = self.position.step / self.config.max_steps if self.config.max_steps else 0.0
        by_minutes = self.position.minutes / self.config.max_minutes if self.config.max_minutes else 0.0
        return min(1.0, max(by_steps, by_minutes))

    @property
    def phase(self) -> Phase:
        """The phase that the run is in."""
        return next((p for p in self.config.phases if self.progress < p.until), self.config.phases[-1])

    # ------------------------------------------------------------------------------------------- one update

    def _update(self, batches: Iterator[np.ndarray], figures: Figures) -> None:
        """One optimiser step over `accumulation` micro-batches, whose figures are added."""
        config, position = self.config, self.position
        torch.manual_seed(hash((config.seed, position.step, self.accelerator.process_index)))
        point = one_cycle(
            self.progress * (RESOLUTION - 1),
            peak=config.lr,
            div_factor=config.div_factor,
            final_div_factor=config.final_div_factor,
            pct_start=config.pct_start,
        )
        for group in self.optimizer.param_groups:
            group["lr"], group["betas"] = point.lr, (point.beta1, group["betas"][1])
        phase = self.phase
        forward = self.compiled_forward if phase.compile else self.forward
        self.codec.train()
        self.optimizer.zero_grad()
        for _ in range(config.accumulation):
            samples = torch.from_numpy(next(batches)).to(self.accelerator.device)
            y, ids, latents = forward(samples)
            x = samples.squeeze(1)
            loss, terms = self.objective(y.float(), x, phase.weights or config.weights)
            self._require_finite("loss", loss)
            self.accelerator.backward(loss / config.accumulation)
            # Clipped inside the accumulation, as published.
            norm = self.accelerator.clip_grad_norm_(self.codec.parameters(), config.clip_norm)
            self._require_finite("gradient norm", norm)
            figures.add(loss=loss, **terms, lr=point.lr, gradient_norm=norm or 0.0)
            figures.add_signals(x, y.detach(), ids, latents.detach())
            position.items += len(samples) * self.accelerator.num_processes
            position.audio_seconds += samples.numel() / self.sampling_rate * self.accelerator.num_processes
        self.optimizer.step()
        self.average.update(self.codec)
        position.step += 1

    def _require_finite(self, name: str, value: Tensor | None) -> None:
        if value is not None and not value.isfinite():
            raise TrainingError(
                f"The {name} is {value.item()} at step {self.position.step}: the last good state is in "
                f"{self.folder / 'state'}; resume with a lower --lr or another --seed."
            )

    def _requests(self) -> Iterator[tuple[int, int, int]]:
        """What the stream is asked for, one request a micro-batch, always one ahead of the training."""
        items = self.position.items
        processes, process = self.accelerator.num_processes, self.accelerator.process_index
        while True:
            phase = self.phase
            size, length = phase.batch_size, round(phase.crop_seconds * self.sampling_rate)
            yield items + process * size, size, length
            items += processes * size

    # ------------------------------------------------------------------------------------- score, save, log

    def _averaged(self) -> L3ACModel:
        """The published network with averaged weights, whose latent and time statistics are taken anew."""
        codec = build_codec(dataclasses.replace(self.config, init_from=None))
        codec.load_state_dict(self.codec.state_dict())
        self.average.copy_to(codec)
        codec.eval()
        clips = torch.from_numpy(self.stream.batch(0, STATISTICS_CLIPS, round(STATISTICS_SECONDS * self.sampling_rate)))
        whitening = codec.whitening
        if whitening is not None:
            with torch.no_grad(), whitening.reestimated():
                for batch in clips.split(16):
                    codec.model.encode(batch)
        return plain_model(codec, list(clips[: STATISTICS_CLIPS // 2, 0]))

    def _evaluate(self, export_as: str | None = None) -> None:
        """Score the averaged weights; export them if they are the best so far, and under `export_as`."""
        if not self._is_main:
            return
        model = self._averaged()
        scores = {"score": 0.0}
        if self.held_out:
            scores = validate(model.to(self.accelerator.device), self.held_out, self.sampling_rate)
            self._log({f"held_out/{name}": value for name, value in scores.items()})
        names = [export_as] if export_as else []
        if scores["score"] > self.position.best:
            self.position.best = scores["score"]
            names.append("best")
        for name in names:
            export_checkpoint(model.cpu(), self.folder / name, self._card(model, scores))

    def _card(self, model: L3ACModel, scores: dict[str, float]) -> str:
        position = self.position
        hours = position.audio_seconds / 3600
        training = (
            f"{position.step} updates on {hours:.2f} hours of crops, repetitions counted, in "
            f"{position.minutes:.0f} minutes on {self.accelerator.device.type}; averaged weights."
        )
        sources = source_table(self.stream.corpus.clips, self.sampling_rate, self.config.manifest)
        return model_card(self.config, model.config, scores, training, sources)

    def _save(self) -> None:
        if self._is_main:
            state = {
                "codec": self.codec.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state_dict(),
                "position": dataclasses.asdict(self.position),
            }
            save_state(self.folder / "state", self.position.step, state)

    def _resume(self) -> None:
        state = load_state(self.folder / "state")
        if state is None:
            return
        self.codec.load_state_dict(state["codec"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.position = Position(**state["position"])
        if self._is_main:
            self._forget_log_after(self.position.step)
        logger.info("resumed at step %d", self.position.step)

    def _forget_log_after(self, step: int) -> None:
        """Drop the lines that an interrupted session wrote after the state that is resumed."""
        path = self.folder / "log.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        whole = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        with atomic_write(path) as file:
            file.write("".join(f"{line}\n" for line in whole).encode())

    def _log(self, record: dict[str, float]) -> None:
        position = self.position
        where = {"minutes": position.minutes, "hours_of_audio": position.audio_seconds / 3600}
        self.accelerator.log(record, step=position.step)
        if self._is_main:
            rounded = {key: float(f"{value:.6g}") for key, value in (where | record).items()}
            with open(self.folder / "log.jsonl", "a") as file:
                file.write(json.dumps({"step": position.step, **rounded}) + "\n")

    # ---------------------------------------------------------------------------------------------- helpers

    def _open_corpus(self, folders: Sequence[str | Path]) -> tuple[Corpus, list[tuple[str, Any]]]:
        config = self.config
        with self.accelerator.main_process_first():
            corpus = open_corpus(
                folders,
                self.folder / "corpus",
                sampling_rate=self.sampling_rate,
                domains=list(config.domains),
                default_domain=config.default_domain,
            )
        train, held = corpus.split(config.holdout)
        for name, part in (("training", train), ("held out", held)):
            hours = {domain: f"{s / 3600:.2f} h" for domain, s in part.seconds(self.sampling_rate).items()}
            logger.info("%s: %d clips, %s", name, len(part.clips), hours)
        return train, held_out_clips(held, self.sampling_rate)

    def _time_left(self) -> str:
        minutes = self.position.minutes * (1 / max(self.progress, 1e-9) - 1)
        return f"{int(minutes // 60)}:{int(minutes % 60):02d} h"

    def _request_stop(self, *_: Any) -> None:
        self._stop = True

    @property
    def _is_main(self) -> bool:
        return self.accelerator.is_main_process
