"""Codec registry: opens specs such as `l3ac-1k`, `opus@12` or `facebook/encodec_24khz@1.5`.

A spec is a name, with a setting after `@` where the codec has one:

| name | codec | setting |
|---|---|---|
| `original` | the clip itself: the upper bound | |
| `opus` | Opus through libsndfile (`classical.py`) | kb/s, from 6 |
| `codec2` | Codec 2 through `c2enc` and `c2dec` (`classical.py`) | mode: 3200 … 450 |
| preset, directory | checkpoints of this package (`checkpoint.py`) | `frozen`: stored statistics, as in streams |
| hub name, directory | models of transformers (`transformers_codecs.py`) | codebooks, or kb/s for EnCodec and X-Codec |

To add a codec, write a subclass of `Codec` in a file of this folder and add a line to `CODECS`. A further model of
transformers needs only a line in `transformers_codecs.ADAPTERS`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence

from huggingface_hub import hf_hub_download

from ...causes import with_causes
from .base import Codec, CodecUnavailable, codec_title, split_setting
from .checkpoint import CheckpointCodec
from .classical import Codec2, Opus, Original
from .transformers_codecs import TransformersCodec

CODECS: Mapping[str, Callable[[str, str], Codec]] = {
    "original": lambda setting, device: Original(),
    "opus": lambda setting, device: Opus(setting),
    "codec2": lambda setting, device: Codec2(setting),
}
"""Name → function of setting and device that opens the codec; other names are checkpoints or models of the hub."""


def open_codec(name: str | Codec, device: str = "cpu") -> Codec:
    """Open a codec.

    Args:
        name: spec, see the table above; an open codec is returned as it is.
        device: torch device.

    Raises:
        CodecUnavailable: it cannot be opened on this machine: no network, a missing tool or file, an unknown setting.
    """
    if isinstance(name, Codec):
        return name
    base, setting = split_setting(name)
    if base in CODECS:
        return CODECS[base](setting, device)
    return _open_model(base, setting, device)


def refuse_equal_titles(names: Sequence[str | Codec]) -> None:
    """Refuse codecs that tables could not tell apart.

    Raises:
        ValueError: two have the same title.
    """
    titles: dict[str, str] = {}
    for name in names:
        spec = name.title if isinstance(name, Codec) else name
        title = codec_title(spec)
        if title in titles:
            raise ValueError(f"{titles[title]} and {spec} would both be called {title}: rename a directory.")
        titles[title] = spec


def _open_model(base: str, setting: str, device: str) -> Codec:
    from ...hub import bundled_presets
    from ...presets import FAMILIES, PRESETS

    of_this_package = base in PRESETS
    try:
        of_this_package = of_this_package or _model_type(base) in FAMILIES
        open_model = CheckpointCodec.open if of_this_package else TransformersCodec.open
        return open_model(base, setting, device)
    except CodecUnavailable:
        raise
    except Exception as error:  # each library and each model has its own
        if not (of_this_package or os.path.isdir(base)):
            offline = f"{', '.join(bundled_presets())}, opus, codec2 and directories work offline"
            reason = (
                "no such directory exists, and the hub was out of reach or has no such model "
                f"({with_causes(error)}); {offline}."
            )
            raise CodecUnavailable(reason) from error
        raise CodecUnavailable(f"it cannot be loaded ({with_causes(error)}).") from error


def _model_type(name: str) -> str | None:
    """Kind of model in a directory or, by its configuration alone, of a hub name."""
    from ...hub import is_hub_name

    path = os.path.join(name, "config.json")
    if is_hub_name(name):
        path = hf_hub_download(name, "config.json")
    elif not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file).get("model_type")
    except (ValueError, AttributeError):
        return None
