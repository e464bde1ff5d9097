"""Text from outside stays text in every format that it goes out in."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from l3ac_tokenizer.cli import report
from l3ac_tokenizer.cli.info import run as info
from l3ac_tokenizer.container import Header, write_l3ac
from l3ac_tokenizer.evaluation.report.html import Example, make_page
from l3ac_tokenizer.evaluation.report.plots import draw_spectrograms
from l3ac_tokenizer.evaluation.report.standard_table import Standard, standard_page, standard_rows
from l3ac_tokenizer.evaluation.report.tables import cost_table, csv_table, summary_tables, table
from l3ac_tokenizer.listening_page import CONTENT_POLICY, listening_page, player, section
from l3ac_tokenizer.logs import get_logger
from l3ac_tokenizer.markup import (
    csv_cell,
    figure_text,
    html_text,
    markdown_code,
    markdown_text,
    printable,
    relative_url,
    table_cell,
)
from l3ac_tokenizer.speechbrain.page import SynthesizedClip, write_page

TEXTS = [
    *('x"><script>alert(1)</script>', '" onerror="alert(1)', "' onload='x", "</td></table><img src=x onerror=y>"),
    *("a|b", "[x](javascript:alert(1))", "![x](http://tracker/x.png)", "<javascript:alert(1)>", "`code`|", "a\nb\r\nc"),
    *("=HYPERLINK(1)", "+1", "-1+1", "@SUM(1)", "\t=1", "＝1", "\x1b[2J\x1b]0;title\x07", "\x9b31m", "\u202egpj.exe"),
    *("$\\frac{$", "$a$", "a\\$b$c$", "\udc80", "plain", "JaVaScRiPt :x", "&lt;b&gt;", "x" * 10_000),
]

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Elements(HTMLParser):
    """Tags with their attributes, and the text, of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def mean(value: float = 1.0) -> dict:
    return {"count": 1, "mean": value, "interval": None}


def summary(name: str) -> dict:
    """A summary in which every name is `name`."""
    of = {"clips": 1, "seconds": 1.0, "bits_per_second": mean(), "values": {"m": mean()}, "failed": {name: 1}}
    codec = {"title": name, "name": name, "unavailable": None, "rates": None, "parameters": None, "gmacs": None}
    codec |= {"sampling_rate": 1, "output_rate": 1, "domains": {"speech": of}, "datasets": {name: of | {"ids": None}}}
    metric = {"title": name, "decimals": 1, "higher_is_better": True, "source": name, "scale": 1.0}
    return {
        "datasets": {name: {"domain": "speech", "clips": 1, "seconds": 1.0}},
        "metrics": {"m": metric},
        "codecs": [codec, {"title": name, "unavailable": name}],
        "versions": {"torch": name},
    }


STANDARD = Standard({"threads": 1, "seconds": 1.0, "rounds": 1, "rows": []})


def evaluation_page(name: str, folder: Path) -> str:
    examples = [Example(name, {name: np.zeros(9, np.float32)})]
    return make_page(summary(name), examples, None, standard_rows(summary(name), STANDARD))


def synthesis_page(name: str, folder: Path) -> str:
    clip = SynthesizedClip(name, name, {name: name}, {name: name}, name)
    return write_page(folder, name, {name: name}, [clip]).read_text(encoding="utf-8")


def bare_page(name: str, folder: Path) -> str:
    return listening_page(name, html_text(name), [section(name, player(relative_url(name)))], html_text(name))


PAGES = [evaluation_page, synthesis_page, bare_page]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("page", PAGES)
def test_pages_hold_the_same_elements_whatever_the_names(tmp_path, page, text):
    found, plain = Elements(page(text, tmp_path)), Elements(page("plain", tmp_path))
    assert [(tag, [*attributes]) for tag, attributes in found.tags] == [
        (tag, [*attributes]) for tag, attributes in plain.tags
    ]
    for _, attributes in found.tags:
        for name in ("src", "href"):
            url = attributes.get(name) or ""
            assert url.startswith("data:audio/flac;base64,") or not re.match(r"\s*([\w+.-]+:|//)", url), url
    assert not CONTROL.search(found.text.replace("\t", ""))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_a_content_security_policy(tmp_path, page):
    tags = Elements(page("plain", tmp_path)).tags
    (policy,) = (attributes["content"] for tag, attributes in tags if attributes.get("http-equiv"))
    assert policy == CONTENT_POLICY and "default-src 'none'" in policy and "unsafe" not in policy
    assert [tag for tag, _ in tags].index("meta") < [tag for tag, _ in tags].index("style")


TABLES: Mapping[str, Callable[[str], str]] = {
    "table": lambda name: table([["a", "b"], [name, name]]),
    "summary": lambda name: summary_tables(summary(name)),
    "standard": lambda name: standard_page(standard_rows(summary(name), STANDARD), STANDARD),
    "cost": lambda name: cost_table(
        {"threads": 1, "rounds": 1, "rows": [{"codec": name, "seconds": 1.0, "batch": 1, "failure": name}]}
    ),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", TABLES)
def test_tables_have_the_same_cells_whatever_the_names(name, text):
    made, plain = TABLES[name](text), TABLES[name]("plain")
    bars = re.compile(r"(?<!\\)\|")
    assert [len(bars.findall(line)) for line in made.split("\n")] == [
        len(bars.findall(line)) for line in plain.split("\n")
    ]
    assert not re.search(r"<(?!/?small)|javascript\s*:|(?<!\\)\]\(", made, re.IGNORECASE)
    assert not CONTROL.search(made)


@pytest.mark.parametrize("text", TEXTS)
def test_markdown_holds_no_markup(text):
    for encoded in (markdown_text(text), table_cell(text)):
        assert not re.search(r"(?<!\\)[|`\[\]*]|[<>]|\n", encoded), encoded
    assert markdown_code(text).count("`") == 2


@pytest.mark.parametrize("text", TEXTS)
def test_csv_has_no_formulas(text):
    rows = list(csv.DictReader(io.StringIO(csv_table([{"clip": text, "stoi": -0.5}]).decode())))
    assert rows[0]["stoi"] == "-0.5" and len(rows) == 1
    assert not rows[0]["clip"].lstrip().startswith(("=", "+", "-", "@", "＝")) and not CONTROL.search(rows[0]["clip"])


def test_numbers_of_csv_stay_numbers():
    assert csv_cell(-1.5) == -1.5 and csv_cell(None) is None


@pytest.mark.parametrize("text", [text for text in TEXTS if len(text) < 1000 or text == "x" * 10_000])
def test_figures_show_names_as_they_are(text):
    from matplotlib.text import Text

    shown, is_formula = Text()._preprocess_math(figure_text(text))
    assert not is_formula and len(shown) <= 80 + shown.count("\\")
    assert shown == text or CONTROL.search(text.replace("\n", "\t")) or len(text) > 80


def test_a_figure_is_drawn_whatever_the_names():
    assert draw_spectrograms({"$\\frac{$": [np.zeros(999, np.float32)]}, ["$\\undefined$"])[:4] == b"\x89PNG"


PRINTERS: Mapping[str, Callable[[str], object]] = {
    "say": report.say,
    "table": lambda text: report.show_table([[text, text]], ["a", text]),
    "facts": lambda text: report.show_facts({"name": text}),
    "json": lambda text: report.show_json({"name": text, text: [text]}),
    "failure": lambda text: report.Failures().add("x", text),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", PRINTERS)
def test_nothing_printed_controls_a_terminal(capsys, name, text):
    PRINTERS[name](text)
    captured = capsys.readouterr()
    assert not CONTROL.search(captured.out + captured.err)


@pytest.mark.parametrize("text", TEXTS)
def test_printed_json_is_the_same_json(capsys, text):
    report.show_json({"name": text})
    assert json.loads(capsys.readouterr().out) == {"name": text}


@pytest.mark.parametrize("as_json", [True, False])
def test_info_prints_a_name_from_a_header(tmp_path, capsys, as_json):
    import argparse

    header = Header("\x1b[2J\x9b31m", "0" * 64, (7,), 16_000, 270, 1)
    write_l3ac(tmp_path / "a.l3ac", header, np.zeros(1, np.int64))
    info(argparse.Namespace(name=str(tmp_path / "a.l3ac"), model=None, json=as_json))
    out = capsys.readouterr().out
    assert not CONTROL.search(out) and "1b[2J" in out


def test_log_messages_control_no_terminal(caplog):
    logger = get_logger("l3ac_tokenizer.a_test")
    with caplog.at_level(logging.WARNING):
        logger.warning("clip %s", "\x1b[2J")
    assert caplog.records[-1].getMessage() == "clip \\x1b[2J"


def test_every_logger_of_the_package_is_such_a_logger():
    root = Path(__file__).parents[2]
    for path in (root / "l3ac_tokenizer").rglob("*.py"):
        text = path.read_text("utf-8")
        if path.name != "logs.py" and "transformers.utils import logging" not in text:
            assert "getLogger(__name__)" not in text, path


def test_what_is_kept_is_kept():
    assert printable("a\nb", keep="\n") == "a\nb" and printable("a\nb") == "a\\x0ab"
