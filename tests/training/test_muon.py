"""Muon orthogonalizes, agrees with torch's, is the same in several processes, and trains hidden matrices alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from networks import TINY, TINY_LIGHT
from torch import Tensor, distributed, multiprocessing, nn

from l3ac_tokenizer import L3ACConfig, L3ACModel
from l3ac_tokenizer.training import muon
from l3ac_tokenizer.training.muon import Muon, orthogonalized
from l3ac_tokenizer.training.network import TrainableCodec
from l3ac_tokenizer.training.optimizer import Optimizer

SHAPES = [(24, 16), (16, 8), (84, 16), (16, 16)]


def trained(steps: int, optimizer_of) -> list[Tensor]:
    """Matrices after some updates on seeded gradients."""
    generator = torch.Generator().manual_seed(0)
    matrices = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    optimizer = optimizer_of(matrices)
    for _ in range(steps):
        for matrix in matrices:
            matrix.grad = torch.randn(matrix.shape, generator=generator)
        optimizer.step()
    return [matrix.detach() for matrix in matrices]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(40, 16), (16, 40), (32, 32)])
def test_singular_values_are_near_one(dtype, shape):
    found = orthogonalized(torch.randn(shape), dtype)
    assert found.dtype == torch.float32 and found.shape == shape
    values = torch.linalg.svdvals(found)
    assert values.max() < 1.3 and values.median() > 0.65
    if shape[0] != shape[1]:  # a square one may have a singular value near zero
        assert values.min() > 0.6


def test_the_gradient_of_nothing_stays_nothing():
    assert torch.equal(orthogonalized(torch.zeros(4, 3), torch.float32), torch.zeros(4, 3))


def test_in_bfloat16_it_is_torchs_own(monkeypatch):
    monkeypatch.setattr(muon, "orthogonalization_type", lambda device: torch.bfloat16)
    options = {"lr": 0.02, "weight_decay": 0.1}
    ours = trained(5, lambda matrices: Muon(matrices, **options))
    theirs = trained(5, lambda matrices: torch.optim.Muon(matrices, **options, adjust_lr_fn="match_rms_adamw"))
    before = trained(0, lambda matrices: Muon(matrices, **options))
    for found, expected, start in zip(ours, theirs, before, strict=True):
        assert (found - expected).norm() < 0.02 * (expected - start).norm()


def in_a_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(trained(3, lambda matrices: Muon(matrices, lr=0.02)), Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_give_the_weights_of_one(tmp_path):
    multiprocessing.spawn(in_a_process, (str(tmp_path),), nprocs=2)
    alone = trained(3, lambda matrices: Muon(matrices, lr=0.02))
    for rank in range(2):
        for found, expected in zip(torch.load(tmp_path / f"{rank}.pt"), alone, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fields", [TINY, TINY_LIGHT], ids=["published", "light"])
@pytest.mark.parametrize("weight_norm", [False, True])
def test_hidden_matrices_alone_are_trained_by_it(fields, weight_norm):
    codec = TrainableCodec(L3ACModel(L3ACConfig(**fields)), whiten=False, weight_norm=weight_norm)
    optimizer = Optimizer(Accelerator(), codec, weight_decay=0.0, clip_norm=1.0, muon=2.0)
    groups = {"adam": optimizer.adam, "muon": optimizer.muon}
    members = {kind: {id(p) for group in each.param_groups for p in group["params"]} for kind, each in groups.items()}
    names = {kind: {n for n, p in codec.named_parameters() if id(p) in of_kind} for kind, of_kind in members.items()}
    assert names["adam"] | names["muon"] == {name for name, _ in codec.named_parameters()}
    assert not names["adam"] & names["muon"]
    parts = {name.removesuffix(".weight").rpartition(".")[2] for name in names["muon"]}
    assert parts == {"to_qkv", "to_out", "expand", "reduce"}
    assert all(name.endswith(".weight") for name in names["muon"])
    assert not any("position_bias" in name or "quantizer" in name or "head" in name for name in names["muon"])
    in_blocks = {name for name in names["muon"] if ".blocks." in name or ".units." in name}
    assert bool(in_blocks) != weight_norm
