"""Language of the code and its documents: plain first lines, American spelling, and the glossary's words."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("l3ac_tokenizer", "recipes", "benchmarks", "hf_integration")
CODE = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
DOCUMENTS = sorted(
    [ROOT / "README.md", *(path for folder in ("docs", *FOLDERS) for path in (ROOT / folder).rglob("*.md"))]
)
SETTINGS = sorted(
    path for folder in FOLDERS for suffix in ("yaml", "html") for path in (ROOT / folder).rglob(f"*.{suffix}")
)

RIDDLES = ("What", "Who", "How", "Where", "From", "Whose", "Which", "When")
"""First words of docstrings that say what a thing is only indirectly."""

IS_NO = re.compile(r"\bis no ", re.IGNORECASE)
BRITISH = re.compile(
    "(normal|initial|quant|recogn|general|summar|organ|maxim|minim|optim|real|vector|util|tokeni|serial|local)is(e|ing|ation)"
    "|recogniser|optimiser|normaliser|analyse(d|\\b)|centre|colour|grey|behaviour|favour|neighbour"
    '|(?<!["`])licence(?!["`])',  # quoted, it is a column of other people's manifests
    re.IGNORECASE,
)
OLD_WORDS = re.compile(
    r"\b[Aa]dversar(y|ies)\b|(\b[Nn]umber of|\d|\}|\|) different ids\b"
    r"|ConvUnit|WaveformBlock|EnhanceBlock|pool_magnitude|GatedPerceptron|DrawnLevelsFSQ|L3AC(Encoder|Decoder)?Output"
)
"""Words that the glossary replaces: adversarial loss, discriminator; codebook size; the papers' and neutral names."""
IDS_A_SECOND = re.compile(r"\bids (a|per) second\b")
"""Called token rate, except as the unit of a number."""
AIMS = re.compile(r"\baim(s|ed)?\b", re.IGNORECASE)


class Text(NamedTuple):
    """A docstring, comment, other literal, or line of a document, white space made single."""

    path: Path
    line: int
    text: str


def literals(path: Path) -> Iterator[Text]:
    """String literals of a module, docstrings among them, adjacent ones joined as Python does."""
    pieces: set[ast.AST] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            pieces.update(node.values)
            parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
            yield Text(path, node.lineno, " ".join("".join(map(str, parts)).split()))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in pieces:
            yield Text(path, node.lineno, " ".join(node.value.split()))


def docstrings(path: Path) -> Iterator[Text]:
    """Strings that stand as statements: docstrings of modules, classes, functions and attributes."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield Text(path, node.lineno, " ".join(node.value.value.split()))


def comments(path: Path) -> Iterator[Text]:
    """Comments of a module, those on successive lines joined."""
    block: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != last + 1:
            yield Text(path, last, " ".join(block))
            block = []
        block.append(token.string.lstrip("# "))
        last = token.start[0]
    if block:
        yield Text(path, last, " ".join(block))


def lines(path: Path) -> Iterator[Text]:
    """Lines of a file."""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        yield Text(path, number, " ".join(line.split()))


def prose(path: Path) -> Iterator[Text]:
    """Lines of a document outside of tables and code blocks."""
    is_code = False
    for text in lines(path):
        if text.text.startswith("```"):
            is_code = not is_code
        elif not is_code and not text.text.startswith("|"):
            yield text


def refuse(pattern: re.Pattern[str], texts: Iterable[Text]) -> None:
    """Fail with file, line and words of every match."""
    hits = {
        f"{text.path.relative_to(ROOT)}:{text.line}: {text.text[max(0, match.start() - 40) : match.end() + 40]}": None
        for text in texts
        for match in pattern.finditer(text.text)
    }
    if hits:
        pytest.fail(f"{len(hits)} places:\n" + "\n".join(hits), pytrace=False)


def test_a_docstring_begins_with_what_the_thing_is_or_does():
    refuse(re.compile(rf"^({'|'.join(RIDDLES)})\b"), (text for path in CODE for text in docstrings(path)))


def test_nothing_is_no_such_thing():
    texts = (text for path in CODE for read in (literals, comments) for text in read(path))
    refuse(IS_NO, texts)


def test_no_document_has_such_a_thing():
    refuse(IS_NO, (text for path in DOCUMENTS for text in lines(path)))


def test_spelling_is_american():
    refuse(BRITISH, (text for path in [*CODE, *SETTINGS, *DOCUMENTS] for text in lines(path)))


def test_old_words_are_gone():
    refuse(OLD_WORDS, (text for path in [*CODE, *SETTINGS, *DOCUMENTS] for text in lines(path)))


def test_the_token_rate_has_its_name():
    code = (text for path in CODE for read in (literals, comments) for text in read(path))
    refuse(re.compile(r"(?<![\d}…] )" + IDS_A_SECOND.pattern), code)


def test_no_document_speaks_of_aims():
    refuse(AIMS, (text for path in DOCUMENTS for text in lines(path)))
