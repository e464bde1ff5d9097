"""The one-cycle schedule equals the golden one and is a function of position alone."""

from __future__ import annotations

import pytest
from accelerate import Accelerator

from l3ac_tokenizer.training.config import DiscriminatorOptions
from l3ac_tokenizer.training.discriminator_trainer import DiscriminatorTrainer
from l3ac_tokenizer.training.schedule import RESOLUTION, one_cycle


def test_published_schedule_is_golden(golden_losses):
    g = golden_losses
    for step, lr, beta1 in zip(g["sched.step"], g["sched.lr"], g["sched.beta1"], strict=True):
        if step < RESOLUTION:  # beyond its end PyTorch's schedule turns upwards again, ours stays
            point = one_cycle(float(step), peak=5e-4)
            assert point.lr == pytest.approx(float(lr), rel=1e-6)
            assert point.beta1 == pytest.approx(float(beta1), rel=1e-6)


def test_ends_are_the_factors_asked_for():
    first = one_cycle(0, peak=1e-3, div_factor=2, final_div_factor=50, pct_start=0.1)
    last = one_cycle(RESOLUTION - 1, peak=1e-3, div_factor=2, final_div_factor=50, pct_start=0.1)
    assert first.lr == pytest.approx(5e-4) and last.lr == pytest.approx(1e-5)
    assert max(one_cycle(p, peak=1e-3, pct_start=0.1).lr for p in range(RESOLUTION)) == pytest.approx(1e-3)


@pytest.mark.parametrize(("schedule", "first", "last"), [("constant", 1e-3, 1e-3), ("one_cycle", 1e-4, 1e-5)])
def test_schedule_of_the_discriminator_spans_its_share_of_the_run(schedule, first, last):
    options = DiscriminatorOptions(start=0.5, lr=1e-3, schedule=schedule, periods=[], windows=[126])
    trainer = DiscriminatorTrainer(options, Accelerator(), seed=0)
    assert [trainer.active(progress) for progress in (0.0, 0.499, 0.5, 1.0)] == [False, False, True, True]
    assert trainer._schedule(0.5).lr == pytest.approx(first) and trainer._schedule(1.0).lr == pytest.approx(last)
