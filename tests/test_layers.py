"""Layering of the package: imports run downwards only and form no circle.

Every import statement counts, also those for type checking and those inside functions. Exempt are the two modules that
register everything else and import it on demand: the top `__init__` and `auto_classes`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "l3ac_tokenizer"
REGISTRY = ("", "auto_classes")

LAYERS = (
    ("cli",),
    (
        "analysis",
        "conversion",
        "evaluation",
        "integrations",
        "serving",
        "speech_lm",
        "speechbrain",
        "tokenization",
        "training",
    ),
    ("asr", "codebook_usage", "id_stability", "listening_page", "listing", "metrics", "plots"),
    (
        "acoustic_bpe",
        "audio",
        "audio_formats",
        "chats",
        "compiled",
        "configuration_extended_lm",
        "container",
        "extended_lm",
        "generation",
        "id_files",
        "id_metadata",
        "inference",
        "language_model",
        "onnx",
        "parts",
        "processing",
        "publishing",
        "streaming",
        "vocabulary",
    ),
    ("modeling",),
    (
        "batches",
        "causes",
        "checks",
        "children",
        "configuration",
        "configuration_taae",
        "families",
        "feature_extraction",
        "files",
        "hub",
        "hub_card",
        "lazy",
        "limits",
        "logs",
        "loudness",
        "markup",
        "names",
        "parsing",
        "presets",
        "published",
        "quantization",
        "range_coder",
        "resampling",
        "storage",
        "storage_lock",
        "trust",
        "urls",
        "version",
    ),
)
"""Top-level modules and packages, the highest layer first. Neighbors in a layer may import each other in one direction.

A new module belongs in the lowest layer that is above all its imports."""

Graph = Mapping[str, Iterable[str]]


def module_name(path: Path) -> str:
    """Dotted name below the package; empty for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_names(path: Path) -> Iterator[str]:
    """Absolute dotted names that the import statements of a module bind or load."""
    package = path.relative_to(PACKAGE.parent).parent.parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def internal(name: str) -> str | None:
    """The module of the package that an imported name is or comes from; None for other packages."""
    first, _, rest = name.partition(".")
    if first != PACKAGE.name:
        return None
    return rest if rest in MODULES else rest.rpartition(".")[0]


IMPORTS = {
    module: {target for name in imported_names(path) if (target := internal(name)) is not None} - {module}
    for module, path in MODULES.items()
    if module not in REGISTRY
}


def part(module: str) -> str:
    """Top-level module or package that a module is in."""
    return module.partition(".")[0]


def layer(module: str) -> int:
    """Index in `LAYERS`."""
    return next(index for index, names in enumerate(LAYERS) if part(module) in names)


def circle(graph: Graph) -> list[str]:
    """Nodes along one circle of a graph; empty if it has none."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for target in sorted(graph.get(node, ())):
            if found := visit(target, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := visit(node, []))), [])


def below(module: str) -> set[str]:
    """A module and everything that it imports, directly or not."""
    found, waiting = set(), [module]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += IMPORTS[current]
    return found


def test_every_module_has_one_layer():
    placed = [name for names in LAYERS for name in names]
    assert len(placed) == len(set(placed))
    assert {part(module) for module in IMPORTS} - set(placed) == set()


def test_only_the_registry_imports_everything():
    assert [module for module, targets in IMPORTS.items() if targets & set(REGISTRY)] == []


@pytest.mark.parametrize("module", IMPORTS)
def test_imports_run_downwards(module):
    assert [target for target in sorted(IMPORTS[module]) if layer(target) < layer(module)] == []


def test_modules_form_no_circle():
    assert circle(IMPORTS) == []


def test_packages_form_no_circle():
    parts: dict[str, set[str]] = {}
    for module, targets in IMPORTS.items():
        parts.setdefault(part(module), set()).update(map(part, targets))
    assert circle({name: targets - {name} for name, targets in parts.items()}) == []


def test_a_circle_is_found():
    assert circle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]


@pytest.mark.parametrize("library", ["accelerate", "datasets", "soundfile", "speechbrain"])
def test_models_import_nothing_for_data_or_training(library):
    models = {name for module in IMPORTS if part(module) == "modeling" for name in below(module)}
    imported = {name: {each.partition(".")[0] for each in imported_names(MODULES[name])} for name in models}
    assert [name for name in sorted(models) if library in imported[name]] == []
