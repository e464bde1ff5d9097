"""Bare preset names load bundled checkpoints without network access, and other names pass unchanged."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3ac_tokenizer import (
    CodecFeatureExtractor,
    ExtendedCausalLM,
    L3ACConfig,
    L3ACModel,
    L3ACProcessor,
    auto_classes,
    hub,
)
from l3ac_tokenizer.presets import PRESETS

LOADS = """
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor
from transformers import AutoModelForAudioTokenization
from l3ac_tokenizer import L3ACConfig, CodecFeatureExtractor, L3ACModel

loaders = {
    AutoConfig: "L3ACConfig",
    L3ACConfig: "L3ACConfig",
    AutoFeatureExtractor: "CodecFeatureExtractor",
    AutoProcessor: "CodecFeatureExtractor",
    CodecFeatureExtractor: "CodecFeatureExtractor",
    AutoModel: "L3ACModel",
    AutoModelForAudioTokenization: "L3ACModel",
    L3ACModel: "L3ACModel",
}
for loader, expected in loaders.items():
    loaded = loader.from_pretrained("l3ac-1k")
    assert type(loaded).__name__ == expected, (loader, loaded)
    config = getattr(loaded, "config", loaded)
    assert getattr(config, "feature_dim", 16) == 16, "not the checkpoint of this test"
"""

COUNT_CONNECTIONS = """
import socket

attempts = []
def refuse(*args, **kwargs):
    attempts.append(args)
    raise OSError("no network")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
"""


@pytest.fixture
def checkpoints(tiny_model, tmp_path_factory):
    """A folder of checkpoints that holds `l3ac-1k`: a tiny network with random weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    tiny_model.save_pretrained(folder / "l3ac-1k")
    CodecFeatureExtractor().save_pretrained(folder / "l3ac-1k")
    return folder


@pytest.fixture
def bundled(checkpoints, monkeypatch):
    monkeypatch.setattr(hub, "CHECKPOINTS", checkpoints)


@pytest.fixture
def python(checkpoints, tmp_path):
    """Run code in a fresh interpreter, with an empty folder and home, and `checkpoints` bundled."""

    def run(code: str, before: str = "", **environment: str) -> str:
        prelude = f"""{before}
from pathlib import Path
from l3ac_tokenizer import hub
hub.CHECKPOINTS = Path({str(checkpoints)!r})
"""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
        done = subprocess.run(
            [sys.executable, "-c", prelude + code],
            env=inherited | {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf")} | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_bare_names_load_offline(python):
    python(LOADS, HF_HUB_OFFLINE="1")


def test_bare_names_try_no_connection_without_network(python):
    code = COUNT_CONNECTIONS + LOADS + "assert not attempts, attempts\n"
    other_name = """
import huggingface_hub
try:
    huggingface_hub.HfApi().model_info("someone/else")
except Exception:
    pass
assert attempts, "the patched sockets see no connection at all"
"""
    python(code + other_name)


def test_bare_names_send_no_request_to_a_hub_that_knows_nothing(python):
    requests = []

    class NotFound(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")  # as the hub says it
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_POST = do_GET

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), NotFound)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        environment = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "NO_PROXY": "127.0.0.1"}
        python(LOADS, **environment)
        assert requests == []
        other_name = """
from transformers import AutoConfig
try:
    AutoConfig.from_pretrained("l3ac-1kk")
except OSError as error:
    print(error)
"""
        assert "l3ac-1kk is not a local folder" in python(other_name, **environment)
        assert any("l3ac-1kk" in path for path in requests)
    finally:
        server.shutdown()
        server.server_close()


def test_auto_classes_imported_first_are_prepared_too(python):
    before = "from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor, AutoTokenizer"
    python(LOADS, before, HF_HUB_OFFLINE="1")


def test_importing_the_package_imports_no_model_code(python):
    loaded = json.loads(python("import json, sys; print(json.dumps(sorted(sys.modules)))"))
    assert not {
        "transformers.modeling_utils",
        "transformers.models.auto.configuration_auto",
        "torchaudio",
        "datasets",
        "speechbrain",
        "accelerate",
    }.intersection(loaded)


@given(
    st.one_of(
        st.text(),
        st.none(),
        st.integers(),
        st.builds(lambda name: f"someone/{name}", st.sampled_from([*PRESETS])),
    )
)
def test_every_other_name_is_left_alone(name):
    if name not in PRESETS:
        assert hub.resolve(name) is name


@pytest.mark.parametrize("kind", ["folder", "file", "folder of output"])
def test_what_is_no_checkpoint_in_the_working_directory_hides_no_name(bundled, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    if kind == "file":
        (tmp_path / "l3ac-1k").touch()
    else:
        (tmp_path / "l3ac-1k").mkdir()
    if kind == "folder of output":
        (tmp_path / "l3ac-1k" / "clip.l3ac").touch()
    assert hub.resolve("l3ac-1k") == str(hub.CHECKPOINTS / "l3ac-1k")
    import transformers

    for loader in (transformers.AutoConfig, transformers.AutoModel, transformers.AutoFeatureExtractor, L3ACModel):
        loader.from_pretrained("l3ac-1k")
    with pytest.raises(OSError, match="no bundled weights"):
        hub.resolve("l3ac-0k75")


def test_a_checkpoint_of_that_name_in_the_working_directory_wins_and_this_is_said(
    bundled, tiny_model, tmp_path, monkeypatch
):
    from transformers.utils import logging

    said = []
    monkeypatch.setattr(logging.get_logger(hub.__name__), "warning_once", said.append)
    monkeypatch.chdir(tmp_path)
    tiny_model.save_pretrained(tmp_path / "l3ac-1k")
    assert hub.resolve("l3ac-1k") == "l3ac-1k"
    assert len(said) == 1 and str(tmp_path / "l3ac-1k") in said[0]


def test_bundled_presets_are_those_with_weights(bundled):
    assert hub.bundled_presets() == ["l3ac-1k"]


@pytest.mark.parametrize("loader", [L3ACConfig, CodecFeatureExtractor, L3ACModel, "AutoConfig", "AutoModel"])
def test_a_preset_without_weights_names_the_ways_to_get_them(bundled, tmp_path, monkeypatch, loader):
    monkeypatch.chdir(tmp_path)
    if isinstance(loader, str):
        import transformers

        loader = getattr(transformers, loader)
    with pytest.raises(
        OSError, match=r"'l3ac-0k75' has no .*`l3ac download l3ac-0k75`.*`l3ac train --config l3ac-0k75`"
    ):
        loader.from_pretrained("l3ac-0k75")


def test_loading_by_keyword(bundled, tiny_model):
    loaded = L3ACConfig.from_pretrained(pretrained_model_name_or_path="l3ac-1k")
    assert loaded.feature_dim == tiny_model.config.feature_dim


@pytest.mark.parametrize(
    "kind",
    [L3ACConfig, L3ACModel, CodecFeatureExtractor, L3ACProcessor, ExtendedCausalLM, ExtendedCausalLM.config_class],
)
def test_classes_are_not_uploaded_as_code(kind):
    with pytest.raises(ValueError, match="`import l3ac_tokenizer`"):
        kind.register_for_auto_class()


def test_installing_twice_changes_nothing():
    finders = list(sys.meta_path)
    auto_classes.install()
    assert sys.meta_path == finders


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("l3ac-1kk", "l3ac-1k"),
        ("L3AC-1k5", "l3ac-1k5"),
        ("sqcodec24k-24khz", "sqcodec-24k-24khz"),
        ("mimi", None),
    ],
)
def test_suggestions(typed, meant):
    assert hub.suggest(typed) == meant
