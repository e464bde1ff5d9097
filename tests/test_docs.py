"""Documents: the files, functions, links and commands that they name exist, and the listings that they show run."""

from __future__ import annotations

import importlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoModel

from l3ac_tokenizer import preset_config
from l3ac_tokenizer.cli.main import parse_arguments
from l3ac_tokenizer.hub import bundled_presets
from l3ac_tokenizer.presets import PRESETS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "l3ac_tokenizer"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
CODE = ("benchmarks", "examples", "hf_integration", "l3ac_tokenizer", "recipes")
FOLDERS = ("docs", *CODE)
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def listings(page: Path, language: str = "python") -> list[str]:
    """Code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


# --- architecture -----------------------------------------------------------------------------------------------


def named_places() -> list[str]:
    """`file.py`, `file.py:name` and `folder/` as the page has them."""
    return sorted(set(re.findall(r"`((?:[\w-]+/)*(?:\w+\.py(?::[\w.]+)?|[\w-]+/))`", prose(ARCHITECTURE))))


@pytest.mark.parametrize("place", named_places())
def test_what_the_architecture_names_exists(place):
    path, _, name = place.partition(":")
    parents = [ROOT, PACKAGE]
    if path.count("/") == 1 and path.endswith("/"):  # a folder of the one named before it, such as `codecs/`
        parents += [folder for folder in PACKAGE.rglob("*") if folder.is_dir()]
    found = [parent / path for parent in parents if (parent / path).exists()]
    assert found, f"{ARCHITECTURE.name} names {path}, which does not exist"
    for outer, inner in pairwise(["", *name.split(".")] if name else []):
        indent = r"    " if outer else r""
        assert re.search(rf"^{indent}(?:async )?(?:def|class) {inner}\b", found[0].read_text("utf-8"), re.MULTILINE), (
            f"{ARCHITECTURE.name} names {place}, and {path} defines no {inner}"
        )


def test_every_folder_of_the_package_is_on_the_map():
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert not {folder for folder in folders if f"`{folder}/`" not in prose(ARCHITECTURE)}


def test_the_metric_of_the_architecture_is_one_file_and_one_line(tmp_path, monkeypatch):
    scorers, registry, base = (
        importlib.import_module(f"l3ac_tokenizer.evaluation.scorers{module}") for module in ("", ".registry", ".base")
    )
    file, line = listings(ARCHITECTURE)
    assert line.count("\n") == 1
    (tmp_path / "clipping.py").write_text(file)
    monkeypatch.setattr(scorers, "__path__", [*scorers.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "SCORERS", {**registry.SCORERS, **eval("{" + line + "}", vars(registry))})
    try:
        scorer = registry.open_scorer("clipping", "0.99", "cpu")
    finally:
        sys.modules.pop(f"{scorers.__name__}.clipping", None)
    decoded = np.array([0.0, 1.0, -1.0, 0.5], dtype=np.float32)
    assert scorer.score(base.Trial(None, decoded, decoded)) == {"clipped": 0.5}


# --- links ------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_between_pages_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page_id(page)} links to {target}, which does not exist"
        if anchor:
            assert anchor in anchors(linked), f"{page_id(page)} links to {target}, and no heading has that anchor"


def test_documents_that_code_names_exist():
    sources = [ROOT / "Makefile", *(path for folder in CODE for path in (ROOT / folder).rglob("*.*"))]
    named = {
        (name, path.relative_to(ROOT).as_posix())
        for path in sources
        if path.suffix in ("", ".py", ".yaml", ".md", ".html")
        for name in re.findall(r"\b(?:docs|recipes)/[\w./-]+\.(?:md|svg|png|json)", path.read_text("utf-8"))
    }
    assert not {(name, path) for name, path in named if not (ROOT / name).exists()}


@pytest.mark.parametrize("folder", ["guides", "reports", "reference"])
def test_the_index_leads_to_every_page(folder):
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert all(f"({folder}/{page.name})" in index for page in (ROOT / "docs" / folder).glob("*.md"))


# --- commands and listings --------------------------------------------------------------------------------------


def commands(page: Path) -> list[str]:
    """Lines of shell that begin with `l3ac`, continued lines joined, comments cut off."""
    blocks = re.findall(r"^```(?:bash|sh|)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition(" #")[0].strip() for line in lines if line.startswith("l3ac ")]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=page_id)
def test_the_commands_of_a_page_parse(page):
    for command in commands(page):
        parse_arguments(shlex.split(command.replace("$SLURM_ARRAY_TASK_ID", "0"))[1:])


def test_the_readme_is_at_most_150_lines():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_the_listing_of_the_readme_runs(tmp_path):
    listing = listings(ROOT / "README.md")[0]
    assert len([line for line in listing.splitlines() if line.strip()]) <= 10
    (preset,) = set(re.findall(r'from_pretrained\("([^"]+)"\)', listing))
    assert preset in bundled_presets()
    shutil.copy(PACKAGE / "assets" / "demo.flac", tmp_path / "speech.flac")
    subprocess.run([sys.executable, "-c", listing], cwd=tmp_path, check=True, timeout=600)
    decoded, rate = soundfile.read(tmp_path / "decoded.wav")
    original, _ = soundfile.read(tmp_path / "speech.flac")
    assert rate == 16_000 and len(decoded) == len(original)


def test_the_latencies_of_the_guide_are_those_of_the_networks():
    guide = (ROOT / "docs" / "guides" / "streaming.md").read_text("utf-8")
    rows = re.findall(r"^\| `(l3ac[\w-]+)` \|((?: [\d.]+ \|){5})$", guide, re.MULTILINE)
    presets = [preset for preset, _ in rows]
    assert presets == [*(name for name in PRESETS if name.endswith("-light")), "l3ac-1k"]
    for preset, cells in rows:
        with torch.device("meta"):
            model = AutoModel.from_config(preset_config(preset))
        hop, ahead, behind = model.config.hop_length, model.encoder_lookahead, model.decoder_lookahead
        waits = np.array([hop, ahead, hop + ahead, behind, hop + ahead + behind]) / model.config.sampling_rate
        assert np.allclose([float(cell) for cell in cells.split("|")[:-1]], 1e3 * waits, rtol=0, atol=0.0501), preset
        report = "latency-light" if preset.endswith("-light") else "latency"
        page = (ROOT / "docs" / "reports" / f"{report}.md").read_text("utf-8")
        shown = [f"{1e3 * wait:.1f} ms" for wait in waits[[0, 2, 3, 4]]]
        assert f"| {preset}, random weights | {' | '.join(shown)} |" in page


@pytest.mark.parametrize("folder", sorted(path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()))
def test_the_readme_has_a_comment_for_every_package(folder):
    tree = listings(ROOT / "README.md", "text")[0]
    assert re.search(rf"^\W*{folder}/\s+\S", tree, re.MULTILINE)


def test_public_names_are_importable():
    package = importlib.import_module("l3ac_tokenizer")
    assert all(hasattr(package, name) for name in package.__all__)


def test_the_example_of_the_public_api_runs(tmp_path, capsys):
    target = tmp_path / "decoded.wav"
    runpy.run_path(str(ROOT / "examples" / "public_api.py"))["main"](
        bundled_presets()[0], str(PACKAGE / "assets" / "demo.flac"), str(target)
    )
    assert soundfile.info(target).samplerate == 16_000
    assert " 0 differ in the stream" in capsys.readouterr().out
