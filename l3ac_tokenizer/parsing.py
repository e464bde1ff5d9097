"""JSON and YAML from outside: values, or a ValueError, whatever the text is."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

from .causes import shortened
from .limits import YAML_BYTES, YAML_DEPTH, YAML_VALUES


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; `json.loads` with one error.

    Raises:
        ValueError: it is not JSON, not in Unicode, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def parse_yaml(text: str, where: str, error: type[ValueError] = ValueError) -> Any:
    """The value of a YAML text, without code, whose aliases do not multiply beyond `YAML_VALUES`.

    Raises:
        ValueError: of the class `error`: it is not YAML, too long, nested too deeply, or too many values; the message
            begins with `where`.
    """
    import yaml

    YAML_BYTES.check(len(text), f"{where} has {len(text):,} characters", error)
    try:
        if _brackets(text) > 10 * YAML_DEPTH:  # on which the scanner spends quadratic time
            raise RecursionError
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        count = _count(node, {})
        YAML_VALUES.check(count, f"{where} has {count:,} values with its aliases", error)
        return loader.construct_document(node)
    except error:
        raise
    except RecursionError:
        raise error(f"{where} is nested too deeply, or within itself: write it flat.") from None
    except Exception as cause:  # besides YAMLError, those of numbers and dates that Python cannot hold
        mark = getattr(cause, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = shortened(str(getattr(cause, "problem", None) or cause), 200)
        raise error(f"{where} is not YAML ({problem}{line}).") from None


def _brackets(text: str) -> int:
    """Depth to which brackets of a text are open at most, those in strings among them."""
    steps = (1 if each in "[{" else -1 for each in re.findall(r"[][{}]", text))
    return max(itertools.accumulate(steps), default=0)


def _count(node: Any, known: dict[int, int], depth: int = 0) -> int:
    """Number of values below a node, each alias counted in full."""
    if depth > YAML_DEPTH:
        raise RecursionError
    if id(node) not in known:
        if not isinstance(node.value, list):
            known[id(node)] = 1
        else:
            children = [child for each in node.value for child in (each if isinstance(each, tuple) else (each,))]
            known[id(node)] = 1 + sum(_count(child, known, depth + 1) for child in children)
    return known[id(node)]
