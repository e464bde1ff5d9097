"""transformers' own test mixins, out of its unpacked source distribution.

`make test-transformers` fetches the distribution of the installed version and names its folder in
`TRANSFORMERS_SOURCES`. Its `tests` folder is made a package here, `transformers_tests`: the distribution
leaves out three modules that the common tests import from, for which small stand-ins follow.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import transformers

PACKAGE = "transformers_tests"


def is_available() -> bool:
    """Whether the sources are named by the environment."""
    return "TRANSFORMERS_SOURCES" in os.environ


def module(name: str) -> ModuleType:
    """A module of transformers' `tests` folder, e.g. `"test_modeling_common"`."""
    if PACKAGE not in sys.modules:
        folder = Path(os.environ["TRANSFORMERS_SOURCES"]) / "tests"
        _add_module(PACKAGE).__path__ = [str(folder)]
        # Of the two mixins, one runs every exporter of the library and one `generate`, which a codec has not.
        _add_module("exporters.test_export").ExportTesterMixin = type("ExportTesterMixin", (), {})
        _add_module("generation.test_utils").GenerationTesterMixin = type("GenerationTesterMixin", (), {})
        _add_module("utils.test_configuration_utils").config_common_kwargs = {
            "return_dict": False,
            "output_hidden_states": True,
            "dtype": "float16",
            "chunk_size_feed_forward": 5,
            "architectures": ["L3ACModel"],
            "id2label": {0: "label"},
            "label2id": {"label": "0"},
            "problem_type": "regression",
        }
    # The configuration tests load the library from their parent folder, which a distribution does not have.
    with mock.patch("transformers.utils.direct_transformers_import", return_value=transformers):
        return importlib.import_module(f"{PACKAGE}.{name}")


def _add_module(name: str) -> ModuleType:
    full_name = name if name == PACKAGE else f"{PACKAGE}.{name}"
    sys.modules[full_name] = ModuleType(full_name)
    return sys.modules[full_name]
