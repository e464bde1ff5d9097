"""States and checkpoint directories outlive a kill at any moment, and what it leaves half done is cleared away."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from networks import TINY

from l3ac_tokenizer import L3ACConfig, L3ACModel
from l3ac_tokenizer.training.export import export_checkpoint, recover_export
from l3ac_tokenizer.training.state import Counters, load_state, remove_unfinished, save_state, saved_states


def test_the_newest_state_is_loaded_and_older_ones_are_dropped(tmp_path):
    assert load_state(tmp_path) is None
    for step in (1, 2, 3):
        save_state(tmp_path, step, {"step": step})
    assert load_state(tmp_path) == {"step": 3}
    assert [path.name for path in saved_states(tmp_path)] == ["state-00000002.pt", "state-00000003.pt"]


@pytest.mark.parametrize("left", [0, 100])
def test_a_damaged_state_gives_way_to_the_one_before(tmp_path, caplog, left):
    for step in (1, 2):
        save_state(tmp_path, step, {"step": step, "weights": torch.ones(1000)})
    newest = tmp_path / "state-00000002.pt"
    newest.write_bytes(newest.read_bytes()[:left])
    state = load_state(tmp_path)
    assert state is not None and state["step"] == 1
    assert f"{newest} cannot be read" in caplog.text


def test_states_that_are_all_damaged_are_not_taken_for_none(tmp_path):
    save_state(tmp_path, 1, {}).write_bytes(b"broken")
    with pytest.raises(
        OSError, match=r"No training state in .* can be read: restore one of them, or remove the folder"
    ):
        load_state(tmp_path)


def test_counters_of_an_older_state_are_taken_up():
    older = {name: value for name, value in dataclasses.asdict(Counters(step=3)).items() if name != "evaluated"}
    assert Counters(**older) == Counters(step=3)


def test_what_a_killed_writer_left_is_removed(tmp_path):
    state = save_state(tmp_path, 1, {})
    (tmp_path / ".0123456789abcdef.tmp").write_bytes(b"half a state")
    remove_unfinished(tmp_path)
    remove_unfinished(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == [state]


def test_a_killed_export_is_cleared_away(tmp_path):
    best = tmp_path / "best"
    best.mkdir()
    (best / "README.md").write_text("whole")
    (tmp_path / ".best-abcd" / "new").mkdir(parents=True)
    recover_export(best)
    assert list(tmp_path.iterdir()) == [best] and (best / "README.md").read_text() == "whole"


def test_an_export_killed_between_its_renames_gives_the_old_folder_back(tmp_path, monkeypatch):
    best, model = tmp_path / "best", L3ACModel(L3ACConfig(**TINY))
    export_checkpoint(model, best, "old")
    replace = os.replace

    def killed_before_the_second(source, target):
        if Path(target) == best:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed_before_the_second)
        patch.setattr("shutil.rmtree", lambda folder: None)  # nor does a killed process clear away
        with pytest.raises(KeyboardInterrupt):
            export_checkpoint(model, best, "new")
    assert not best.exists()
    recover_export(best)
    assert list(tmp_path.iterdir()) == [best] and (best / "README.md").read_text() == "old"
