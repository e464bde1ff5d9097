"""Configuration files: the bundled ones by name, and inheritance by `base:`."""

from __future__ import annotations

import difflib
import functools
import os
import reprlib
from pathlib import Path
from typing import Any

from ..causes import InputError
from ..files import read_regular
from ..limits import YAML_BYTES, YAML_DEPTH
from ..parsing import parse_yaml

CONFIGS = Path(__file__).parent / "configs"
"""Folder of the bundled configurations."""


class ConfigError(InputError):
    """Invalid configuration; the message names the key and the remedy."""


def bundled_configs() -> list[str]:
    """Names of the bundled configurations, such as `l3ac-1k-light` and `light/joint`: those of whole runs first."""
    names = [path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml")]
    whole = [name for name in names if os.path.basename(name) != "base"]
    return sorted(whole, key=lambda name: (name.count("/"), name))


def config_path(config: str | Path) -> Path:
    """The file of a bundled configuration by its name, or a path as it is.

    Raises:
        ConfigError: it is neither the name of a bundled configuration nor a file.
    """
    names = bundled_configs()
    if str(config) in names:
        return CONFIGS / f"{config}.yaml"
    if Path(config).is_file():
        return Path(config)
    nearest = difflib.get_close_matches(str(config).removesuffix(".yaml").rpartition("configs/")[2], names, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"bundled are {', '.join(names)}."
    raise ConfigError(f"No configuration file {config}, nor a bundled configuration of that name; {hint}")


def read_values(config: str | Path) -> dict[str, Any]:
    """Read the values of a configuration, merged over those of the file it names under `base:`.

    Args:
        config: name of a bundled configuration, or a YAML file.

    Raises:
        ConfigError: A file does not exist or is not a mapping.
    """
    files: list[dict[str, Any]] = []
    seen: list[Path] = []
    following: Path | None = config_path(config)
    while following is not None:
        seen.append(following)
        if not following.is_file():
            raise ConfigError(f"No configuration file {following}.")
        if following.resolve() in {each.resolve() for each in seen[:-1]}:
            raise ConfigError(f"{seen[-2]} names {following} under `base:`, which leads to itself: remove one `base:`.")
        if len(seen) > YAML_DEPTH:
            raise ConfigError(f"{config} leads to more than {YAML_DEPTH} files by `base:`: join them.")
        values = _read_yaml(following) or {}
        if not isinstance(values, dict):
            raise ConfigError(f"{following} is not a mapping of keys to values.")
        base = values.pop("base", None)
        if not (base is None or isinstance(base, str)):
            raise ConfigError(f"{following} has {reprlib.repr(base)} under `base:`; name a file.")
        files.append(values)
        following = None if base is None else following.parent / base
    return functools.reduce(merged, reversed(files))


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """The values of `base` with those of `over` in their place, groups key by key."""
    values = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(values.get(key), dict)
        values[key] = merged(values[key], value) if both else value
    return values


def parse_value(text: str, where: str) -> Any:
    """The value of a YAML text.

    Raises:
        ConfigError: It is not YAML.
    """
    return parse_yaml(text, where, ConfigError)


def _read_yaml(path: Path) -> Any:
    try:
        text = read_regular(path, YAML_BYTES).decode("utf-8")
    except ValueError as error:  # too large, or another encoding
        raise ConfigError(f"{path} is not YAML in UTF-8 ({error}).") from None
    return parse_value(text, str(path))
