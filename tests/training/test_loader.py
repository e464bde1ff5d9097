"""The loader of one process among several counts the files that this process could not read."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from l3ac_tokenizer.training.config import Phase, TrainingConfig
from l3ac_tokenizer.training.data import loader as loader_module
from l3ac_tokenizer.training.data.corpus import DataError
from l3ac_tokenizer.training.data.loader import BatchLoader
from l3ac_tokenizer.training.data.sampler import Batch
from l3ac_tokenizer.training.state import Counters


class HalfUnusable:
    """A sampler that replaces every second item."""

    def __getitem__(self, request):
        items = range(request.first, request.first + request.size)
        return Batch(request, torch.zeros(request.size, 1, 8), [f"{item} is broken" for item in items if item % 2])


@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize(("max_unusable", "stops"), [(0.4, True), (0.6, False)])
def test_too_many_unusable_files_stop_one_process_as_soon_as_several(monkeypatch, processes, max_unusable, stops):
    monkeypatch.setattr(loader_module, "FEW_UNUSABLE", 0)
    config = TrainingConfig(phases=[Phase(0.001, 2)], accumulation=2, workers=0, max_unusable=max_unusable)
    accelerator = SimpleNamespace(device=torch.device("cpu"), num_processes=processes, process_index=processes - 1)
    groups = BatchLoader(HalfUnusable(), config, 8000, accelerator).groups(Counters(items=40), lambda step: 0.0)
    if stops:
        with pytest.raises(DataError, match="2 files among 4 items are unusable"):
            next(groups)
    else:
        for _ in range(5):
            next(groups)
    groups.close()
