"""Tables of recipes in the format of SpeechBrain's `tests/recipes`, run in the same way."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from conftest import RECIPES, run

ROOT = RECIPES.parent


def rows() -> list[dict[str, str]]:
    """Rows of all recipe tables."""
    every = []
    for table in sorted((ROOT / "tests" / "recipes").glob("*.csv")):
        with open(table, encoding="utf-8", newline="") as file:
            every += csv.DictReader(file)
    return every


@pytest.mark.parametrize("row", rows(), ids=lambda row: Path(row["Hparam_file"]).stem)
def test_every_file_of_a_recipe_is_there(row):
    for column in ("Script_file", "Hparam_file", "Data_prep_file", "Readme_file"):
        assert (ROOT / row[column]).is_file(), row[column]


@pytest.mark.slow
@pytest.mark.parametrize("row", rows(), ids=lambda row: Path(row["Hparam_file"]).stem)
def test_a_recipe_runs_with_its_flags_and_leaves_its_files(row, asr_run, tts_run, tmp_path):
    made = {"LibriSpeech": asr_run, "LJSpeech": tts_run}[row["Dataset"]]
    arguments = {
        "--data_folder": made["data"],
        "--cached_data_folder": made["cache"],
        "--output_folder": tmp_path,
        "--skip_prep": True,
    }
    if row["Dataset"] == "LibriSpeech":
        arguments["--test_csv"] = f"[{made['cache']}/test.csv]"
        arguments["--output_neurons"] = 12  # the text units of the made language
    script = ROOT / row["Script_file"]
    flags = [*row["test_debug_flags"].split(), *(f"{name}={value}" for name, value in arguments.items())]
    run(script.parent, script.name, str(ROOT / row["Hparam_file"]), *flags, "--debug")
    wanted = row["test_debug_checks"].removeprefix("file_exists=[").removesuffix("]")
    for name in wanted.split(","):
        assert (tmp_path / name).is_file(), name
