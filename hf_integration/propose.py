"""Generation of the files to propose L3AC to transformers, from this package's own.

    python -m hf_integration.propose CHECKOUT_OF_TRANSFORMERS

transformers keeps each model in a single file with relative imports, whereas this package has many small files. They
are joined and their imports rewritten, so no code exists twice. Documentation and tests are copied from `proposal/`.
transformers generates the registration with its Auto classes: afterwards, run
`python utils/check_auto.py --fix_and_overwrite`, `python utils/check_inits.py --fix_and_overwrite` and `make style` in
its checkout.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "l3ac_tokenizer"
TEMPLATES = Path(__file__).parent / "proposal"

# Each file only needs those before it.
MODEL_FILES = (
    "limits.py",
    "causes.py",
    "checks.py",
    "quantization.py",
    "modeling/cpu_kernels.py",
    "modeling/span.py",
    "modeling/layers.py",
    "modeling/l3ac/attention.py",
    "modeling/time_norm.py",
    "modeling/l3ac/spectral.py",
    "modeling/l3ac/encoder.py",
    "modeling/l3ac/decoder.py",
    "modeling/inputs.py",
    "modeling/chunked.py",
    "modeling/outputs.py",
    "modeling/pretrained.py",
    "modeling/encoding.py",
    "modeling/encoder_model.py",
    "modeling/codec.py",
    "modeling/l3ac/model.py",
)
OURS_ONLY = {
    *("from_preset", "from_pretrained", "takes_bundled_names"),
    *("register_for_auto_class", "refuse_remote_code", "_upload_modified_files"),
}
"""Names that transformers does not need: bundled checkpoints, presets, several families, models outside of it."""

LICENSE = """\
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""


def joined(files: Iterable[Path], *, postponed_annotations: bool) -> str:
    """Join modules into one: imports first, then everything else in order, with one `__all__` at the end.

    Raises:
        ValueError: Two files define the same name.
    """
    imports: dict[str, None] = {}
    bodies: list[str] = []
    exported: list[str] = []
    owners: dict[str, Path] = {}
    for file in files:
        source = file.read_text()
        tree = ast.parse(source)
        lines = source.splitlines()
        dropped: set[int] = set()
        for index, node in enumerate(tree.body):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                imports |= dict.fromkeys(_library_imports(node))
                dropped |= _lines(node)
            elif index == 0 and isinstance(node, ast.Expr):  # the docstring of the module
                dropped |= _lines(node)
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                exported += ast.literal_eval(node.value)
                dropped |= _lines(node)
            for name in _defined(node):
                if name in owners:
                    raise ValueError(f"{file} and {owners[name]} both define {name}; rename one of them.")
                owners[name] = file
            if isinstance(node, ast.ClassDef):
                dropped |= _ours_only(node)
        kept = [line for number, line in enumerate(lines, 1) if number not in dropped]
        bodies.append("\n".join(kept).strip())
    future = ["from __future__ import annotations"] if postponed_annotations else []
    head = "\n".join([*future, *imports])
    names = "".join(f'    "{name}",\n' for name in sorted(exported))
    return f"{LICENSE}\n{head}\n\n\n" + "\n\n\n".join(bodies) + f"\n\n\n__all__ = [\n{names}]\n"


def _library_imports(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Rewrite an import for transformers; imports from our package are dropped, except for the configuration."""
    if isinstance(node, ast.Import):
        return [ast.unparse(node)]
    if node.level:
        wanted = node.names if node.module == "configuration" else []
        return [f"from .configuration_l3ac import {alias.name}" for alias in wanted]
    module = node.module or ""
    if module == "__future__":
        return []
    names = ", ".join(ast.unparse(alias) for alias in node.names)
    if module == "transformers":
        submodules = {"PreTrainedConfig": "...configuration_utils"}
        return [
            f"from {submodules.get(alias.name, '...')} import {alias.name}" + _renamed(alias) for alias in node.names
        ]
    if module.startswith("transformers."):
        module = "..." + module.removeprefix("transformers.")
    return [f"from {module} import {names}"]


def _renamed(alias: ast.alias) -> str:
    return f" as {alias.asname}" if alias.asname else ""


def _lines(node: ast.stmt) -> set[int]:
    assert node.end_lineno is not None
    return set(range(node.lineno, node.end_lineno + 1))


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [ast.unparse(target) for target in node.targets if ast.unparse(target) != "__all__"]
    return []


def _ours_only(node: ast.ClassDef) -> set[int]:
    dropped = {d.lineno for d in node.decorator_list if ast.unparse(d) in OURS_ONLY}
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name in OURS_ONLY:
            first = min([member.lineno, *(d.lineno for d in member.decorator_list)])
            assert member.end_lineno is not None
            dropped |= set(range(first, member.end_lineno + 2))
    return dropped


def propose(checkout: Path) -> list[Path]:
    """Write the proposal into a checkout of transformers, and return the written files.

    Raises:
        OSError: `checkout` is not a checkout of transformers.
    """
    models = checkout / "src" / "transformers" / "models"
    if not models.is_dir():
        raise OSError(f"{checkout} has no src/transformers/models; give a checkout of transformers.")
    files = {
        "src/transformers/models/l3ac/configuration_l3ac.py": joined(
            # `strict` reads the annotations of the class, so they must not be postponed.
            [PACKAGE / "limits.py", PACKAGE / "configuration.py"],
            postponed_annotations=False,
        ),
        "src/transformers/models/l3ac/feature_extraction_l3ac.py": joined(
            [PACKAGE / name for name in ("limits.py", "checks.py", "loudness.py", "feature_extraction.py")],
            postponed_annotations=True,
        ),
        "src/transformers/models/l3ac/modeling_l3ac.py": joined(
            [PACKAGE / name for name in MODEL_FILES], postponed_annotations=True
        ),
    }
    for template in sorted(path for path in TEMPLATES.rglob("*") if path.is_file()):
        files[template.relative_to(TEMPLATES).as_posix()] = LICENSE * (template.suffix == ".py") + template.read_text()
    written = []
    for name, text in files.items():
        target = checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        written.append(target)
    return written


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write the files that propose L3AC to transformers.")
    parser.add_argument("checkout", type=Path, help="checkout of transformers")
    options = parser.parse_args(arguments)
    try:
        for path in propose(options.checkout):
            print(path)
    except (OSError, ValueError) as error:
        print(f"propose: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
