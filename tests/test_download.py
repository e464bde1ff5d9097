"""Published weights are downloaded from a hub, verified, converted and kept; every failure is one sentence."""

from __future__ import annotations

import io
import json
import threading

import huggingface_hub
import pytest
import soundfile
import torch
from local_hub import COMMIT, Hub, connect, serving, sha256
from networks import TINY, speech_like
from safetensors.torch import load_file, save
from transformers import AutoFeatureExtractor, AutoModel

from l3ac_tokenizer import download, preset_config, presets, published
from l3ac_tokenizer.cli import main
from l3ac_tokenizer.conversion import fetching
from l3ac_tokenizer.conversion.golden_weights import deterministic_state
from l3ac_tokenizer.conversion.parity import GOLDEN_L3AC, GOLDEN_TAAE, compare_model
from l3ac_tokenizer.published import PUBLISHED, RECORD, PublishedWeights

REPOSITORY = "someone/codec"
PLACE = fetching.Place(REPOSITORY, "weights/tiny.v1")
FILES = ("encoder", "quantizer", "decoder", "en_encoder", "en_decoder")
CARD = b"---\nlicense: mit\n---\nA codec.\n"


def pickled(tensors) -> bytes:
    file = io.BytesIO()
    torch.save(dict(tensors), file)
    return file.getvalue()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that this process uses, and an empty cache of checkpoints."""
    hub = Hub()
    monkeypatch.setenv("L3AC_CACHE", str(tmp_path / "checkpoints"))
    with serving(hub) as endpoint:
        connect(monkeypatch, endpoint, tmp_path / "hub")
        yield hub


@pytest.fixture(scope="module")
def tiny_files():
    """The published files of a tiny network."""
    with pytest.MonkeyPatch.context() as patch:
        add_preset(patch, "l3ac-tiny", TINY)
        state = deterministic_state("l3ac-tiny")
    return {f"{PLACE.folder}/{name}.pt": pickled(state[name]) for name in FILES} | {
        "README.md": CARD,
        "LICENSE": b"MIT License",
        "weights/other.v1/encoder.pt": b"not wanted",
    }


@pytest.fixture
def tiny(hub, tiny_files, monkeypatch):
    """A preset with published weights, those of a tiny network."""
    add_preset(monkeypatch, "l3ac-tiny", TINY)
    monkeypatch.setitem(PUBLISHED, "l3ac-tiny", PublishedWeights(REPOSITORY, PLACE.folder, published.OF_REPOSITORY, 1))
    hub.repositories[REPOSITORY] = dict(tiny_files)
    return "l3ac-tiny"


def add_preset(patch, name, values):
    patch.setitem(presets.FAMILIES["l3ac"], name, values)
    patch.setitem(presets.PRESETS, name, values)


def fetched(hub, **files):
    """Fetch small files in place of weights."""
    hub.repositories[REPOSITORY] = {f"{PLACE.folder}/{name}.pt": name.encode() * 1000 for name in FILES} | files
    return fetching.fetch(PLACE, "l3ac-1k")


# --- what is kept -----------------------------------------------------------------------------------------------


def test_one_command_downloads_and_one_line_loads(hub, tiny, capsys):
    assert main(["download", tiny, "--any-sound"]) == 0
    said = capsys.readouterr().out
    assert COMMIT in said and REPOSITORY in said and "not calibrated" in said
    sent = len(hub.requests)
    model = AutoModel.from_pretrained("l3ac-tiny-published")
    AutoFeatureExtractor.from_pretrained("l3ac-tiny-published")
    assert len(hub.requests) == sent
    assert model.weights_digest() in said
    assert model.config.hop_length == 12
    assert main(["models", "--json"]) == 0
    row = next(row for row in json.loads(capsys.readouterr().out) if row["name"] == tiny)
    assert (row["downloaded"], row["bundled"], row["license"]) == (True, False, "mit")
    assert main(["info", "l3ac-tiny-published"]) == 0
    said = capsys.readouterr().out
    assert (
        "mit\n" in said
        and "not possible before its calibration: run `l3ac download l3ac-tiny --calibrate FOLDER`" in said
    )
    assert "weights/other.v1/encoder.pt" not in " ".join(hub.transfers())


def test_a_download_records_where_every_file_comes_from(hub, tiny, tiny_files):
    folder = download(tiny, any_sound=True)
    record = json.loads((folder / RECORD).read_text())
    assert (record["repository"], record["commit"], record["license"]) == (REPOSITORY, COMMIT, "mit")
    wanted = {path: sha256(content) for path, content in tiny_files.items() if "other" not in path}
    assert record["source_sha256"] == wanted
    kept = {path.name for path in folder.iterdir()} - {RECORD}
    assert kept == {"config.json", "preprocessor_config.json", "model.safetensors", "README.md", "LICENSE"}
    assert record["files"] == {name: sha256((folder / name).read_bytes()) for name in kept}
    card = (folder / "README.md").read_text()
    assert 'license_name: "mit"' in card or "license_name: mit" in card
    assert COMMIT in card and 'from_pretrained("l3ac-tiny-published")' in card


def test_a_second_call_does_nothing(hub, tiny):
    folder = download(tiny, any_sound=True)
    before = [(path.name, path.stat().st_mtime_ns) for path in sorted(folder.iterdir())], len(hub.requests)
    assert download(f"{tiny}-published") == folder
    assert ([(path.name, path.stat().st_mtime_ns) for path in sorted(folder.iterdir())], len(hub.requests)) == before


def test_two_at_once_download_once(hub, tiny):
    folders = []
    threads = [threading.Thread(target=lambda: folders.append(download(tiny, any_sound=True))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 2 and len(set(hub.transfers())) == len(hub.transfers()) == len(FILES)


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_download_is_told_and_made_again(hub, tiny, damage, caplog):
    folder = download(tiny, any_sound=True)
    weights = (folder / "model.safetensors").read_bytes()
    if damage == "missing":
        (folder / "model.safetensors").unlink()
        with pytest.raises(OSError, match=r"l3ac-tiny-published is damaged: run `l3ac download l3ac-tiny`"):
            AutoModel.from_pretrained("l3ac-tiny-published")
    else:
        (folder / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    transfers = len(hub.transfers())
    download(tiny, any_sound=True)
    assert f"{folder} is damaged and is made again" in caplog.text
    assert (folder / "model.safetensors").read_bytes() == weights
    assert len(hub.transfers()) == transfers, "the files are in the hub's cache"


def test_what_was_not_downloaded_names_the_command(hub, tmp_path):
    with pytest.raises(OSError, match=r"l3ac-1k-published is not downloaded yet: run `l3ac download l3ac-1k` once"):
        AutoModel.from_pretrained("l3ac-1k-published")
    assert hub.requests == []


def test_a_place_on_the_hub_takes_its_preset_and_a_directory_of_its_own(hub, tiny, tmp_path):
    output = tmp_path / "mine"
    folder = download(f"{REPOSITORY}@main:{PLACE.folder}", output, preset=tiny, any_sound=True)
    assert folder == output and AutoModel.from_pretrained(output).config.hop_length == 12
    with pytest.raises(ValueError, match="Give the preset of the network"):
        download(f"{REPOSITORY}:{PLACE.folder}")
    with pytest.raises(OSError, match="holds other weights"):
        download("l3ac-1k", output)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    with pytest.raises(OSError, match="is not a downloaded checkpoint"):
        download(tiny, tmp_path / "full")


@pytest.mark.parametrize("name", ["l3ac-1k-light", "nothing", "a/b/c", "taae-small"])
def test_names_without_published_weights_are_refused(hub, name):
    with pytest.raises(ValueError, match="has no published weights: give one of l3ac-0k75, l3ac-1k"):
        download(name)


def test_weights_that_decode_speech_to_noise_are_refused_and_leave_nothing(hub, tiny):
    with pytest.raises(ValueError, match=r"decode a sentence of speech to other sounds \(STFT distance"):
        download(tiny)
    assert not published.is_downloaded(tiny)
    assert [path.name for path in published.cache_folder().iterdir()] == [".l3ac-tiny-published.lock"]


def test_weights_of_another_network_are_refused_by_the_names_of_their_tensors(hub, tiny):
    state = torch.load(io.BytesIO(hub.repositories[REPOSITORY][PLACE.path("encoder.pt")]))
    state.popitem()
    hub.repositories[REPOSITORY][PLACE.path("encoder.pt")] = pickled(state)
    with pytest.raises(ValueError, match=r"do not fit l3ac-tiny: missing encoder\."):
        download(tiny, any_sound=True)
    assert not published.is_downloaded(tiny)


# --- calibration ------------------------------------------------------------------------------------------------


@pytest.fixture
def audio(tmp_path, monkeypatch):
    """Twelve seconds of audio, which is enough here."""
    monkeypatch.setattr("l3ac_tokenizer.conversion.download.CALIBRATION_MINUTES", 0.1)
    (tmp_path / "audio").mkdir()
    for seed in range(2):
        soundfile.write(tmp_path / "audio" / f"{seed}.wav", speech_like(6 * 16_000, seed).numpy(), 16_000)
    return tmp_path / "audio"


def test_frozen_decoding_wants_the_calibration_whose_command_it_names(hub, tiny, audio):
    download(tiny, any_sound=True)
    model = AutoModel.from_pretrained("l3ac-tiny-published")
    codes = model.encode(speech_like(2400)[None, None]).audio_codes
    with pytest.raises(ValueError, match="`l3ac download l3ac-tiny --calibrate FOLDER`"):
        model.decode(codes, time_norm="frozen")
    sent = len(hub.requests)
    folder = download(tiny, calibrate=audio)
    assert len(hub.requests) == sent
    calibrated = AutoModel.from_pretrained("l3ac-tiny-published")
    assert calibrated.weights_digest() == model.weights_digest()
    assert calibrated.decode(codes, time_norm="frozen").audio_values.isfinite().all()
    record = json.loads((folder / RECORD).read_text())
    assert record["calibration"]["clips"] == 2 and record["calibration"]["minutes"] == pytest.approx(0.2)
    assert download(tiny) == folder and "0.2 minutes of audio" in (folder / "README.md").read_text()


def test_too_little_audio_for_a_calibration_is_refused_and_changes_nothing(hub, tiny, audio, monkeypatch):
    monkeypatch.setattr("l3ac_tokenizer.conversion.download.CALIBRATION_MINUTES", 10)
    folder = download(tiny, any_sound=True)
    before = (folder / RECORD).read_bytes()
    with pytest.raises(ValueError, match=r"has 0\.2 minutes of audio; calibration needs 10"):
        download(tiny, calibrate=audio)
    assert (folder / RECORD).read_bytes() == before


# --- a hub that fails -------------------------------------------------------------------------------------------


def test_files_come_with_the_digests_of_their_contents(hub):
    result = fetched(hub, **{"README.md": CARD})
    assert result.commit == COMMIT
    assert result.digests[PLACE.path("decoder.pt")] == sha256(b"decoder" * 1000)
    assert (result.snapshot / PLACE.path("decoder.pt")).read_bytes() == b"decoder" * 1000


def test_a_connection_cut_in_the_middle_is_continued_where_it_was_cut(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 500)
    hub.cut = {PLACE.path("decoder.pt")}
    result = fetched(hub)
    assert hub.ranges() == ["bytes=3500-"]  # half of the 7000 bytes
    assert result.digests[PLACE.path("decoder.pt")] == sha256(b"decoder" * 1000)


def test_an_interrupted_download_keeps_the_files_that_it_completed(hub):
    missing = {f"{PLACE.folder}/{name}.pt": name.encode() for name in FILES[:-1]}
    hub.repositories[REPOSITORY] = missing
    with pytest.raises(OSError):
        fetching.fetch(PLACE, "l3ac-1k")
    before = len(hub.transfers())
    with pytest.raises(OSError):
        fetching.fetch(PLACE, "l3ac-1k")
    assert len(hub.transfers()) == before == len(FILES) - 1


@pytest.mark.parametrize("content", [b"<html>Log in</html>".ljust(7000), b"x" * 7000])
def test_content_that_the_hub_did_not_state_is_refused(hub, content):
    hub.sent = {PLACE.path("decoder.pt"): content}
    with pytest.raises(OSError, match=r"weights/tiny\.v1/decoder\.pt of someone/codec has the SHA-256 .* not the one"):
        fetched(hub)
    hub.sent = {}
    assert fetched(hub).digests, "the next call mends the hub's cache"


def test_html_of_another_length_in_place_of_a_file_is_refused(hub):
    hub.sent = {PLACE.path("decoder.pt"): b"<html>Log in</html>"}
    with pytest.raises(OSError, match=r"someone/codec could not be fetched \(.*run the command again"):
        fetched(hub)


def test_html_that_a_repository_holds_in_place_of_weights_is_refused(hub, tiny):
    hub.repositories[REPOSITORY][PLACE.path("decoder.pt")] = b"<html>Log in</html>"
    with pytest.raises(OSError, match=r"decoder\.pt is not a plain file of tensors"):
        download(tiny)


def test_a_file_that_the_repository_lacks_is_named(hub):
    hub.repositories[REPOSITORY] = {f"{PLACE.folder}/{name}.pt": b"x" for name in FILES if name != "decoder"}
    with pytest.raises(OSError, match=r"someone/codec has no weights/tiny\.v1/decoder\.\w+ at commit c0ffee"):
        fetching.fetch(PLACE, "l3ac-1k")


def test_a_gated_repository_says_how_to_accept_its_license_and_set_a_token(hub):
    hub.repositories["stabilityai/stable-codec-speech-16k"] = {"model_config.json": b"{}", "model.safetensors": b""}
    hub.fault = "gated"
    with pytest.raises(OSError, match=r"gated: open .* accept its license .Stability AI Community License.*HF_TOKEN"):
        download("taae-950m")


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (429, "status 429.*limits requests; wait"),
        (500, "status 500.*out of order; run the command again later"),
        (503, "status 503.*out of order"),
        (403, "status 403.*token is not valid"),
        ("private", "shows no repository someone/codec"),
        ("html", "could not be fetched"),
    ],
)
def test_a_fault_of_the_hub_is_one_sentence_with_a_remedy(hub, fault, sentence):
    hub.fault = fault
    with pytest.raises(OSError, match=sentence) as raised:
        fetched(hub)
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


def test_an_unknown_repository_and_an_unknown_revision_are_named(hub):
    with pytest.raises(OSError, match="shows no repository no/where"):
        fetching.fetch(fetching.Place("no/where"), "l3ac-1k")
    hub.repositories[REPOSITORY] = {}
    with pytest.raises(OSError, match="has no revision 'v9'"):
        fetching.fetch(fetching.Place(REPOSITORY, "", "v9"), "l3ac-1k")


def test_without_a_network_what_is_cached_suffices_and_what_is_not_is_said(hub, tiny, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="HF_HUB_OFFLINE is set"):
        download(tiny)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    fetching.fetch(PLACE, tiny)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert download(tiny, any_sound=True).is_dir()


def test_a_hub_that_cannot_be_reached_is_said(hub, monkeypatch, tmp_path):
    connect(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub")
    with pytest.raises(OSError, match=r"could not be fetched .*check the network, HF_ENDPOINT"):
        fetched(hub)


@pytest.mark.usefixtures("short_count")
def test_the_check_of_all_published_weights_prints_what_it_measures_and_what_is_missing(hub, tiny, audio, capsys):
    pytest.importorskip("pesq")
    from benchmarks import check_published

    arguments = [str(audio), "--asr", "none", "--limit", "1", "--any-sound", "--presets", tiny, "l3ac-1k"]
    assert check_published.main(arguments) == 1
    said = capsys.readouterr().out
    assert "| l3ac-tiny | 1 | " in said and "l3ac-1k: The hub shows no repository zhai-lw/L3AC" in said
    assert (
        check_published.PAPER["l3ac-1k"] == "0.84 / 1.77" and check_published.PAPER.keys() | {tiny} == PUBLISHED.keys()
    )


# --- golden ids -------------------------------------------------------------------------------------------------

FULL = [
    pytest.param(preset, marks=[] if preset == "l3ac-3k" else pytest.mark.slow)
    for preset in (*GOLDEN_L3AC, *GOLDEN_TAAE)
]


@pytest.mark.parametrize("preset", FULL)
def test_downloaded_weights_give_the_golden_ids(hub, shared, preset, monkeypatch):
    golden = load_file(shared / "reference" / f"{preset}.safetensors")
    state = deterministic_state(preset, golden)
    if preset in GOLDEN_TAAE:  # under the names of the files of Stable Codec
        monkeypatch.setitem(PUBLISHED, preset, PublishedWeights("stabilityai/codec", "", "a license", 1))
        tensors = {name: value.clone() for name, value in state["model"].items()}
        released = json.dumps(released_config(preset_config(preset)))
        files = {"model.safetensors": save(tensors), "model_config.json": released.encode()}
    else:
        files = {f"{PUBLISHED[preset].folder}/{name}.pt": pickled(state[name]) for name in FILES}
    hub.repositories[PUBLISHED[preset].repository] = files
    download(preset, any_sound=True)
    parity = compare_model(preset, AutoModel.from_pretrained(f"{preset}-published").eval(), golden)
    assert parity.changed_away_from_boundary == 0 and parity.holds(), parity


def released_config(config):
    """The `model_config.json` that lies beside released weights of TAAE."""
    half = {
        "channels": config.hidden_size,
        "c_mults": [1] * len(config.strides),
        "strides": list(config.strides),
        "transformer_depths": list(config.depths),
        "latent_dim": len(config.levels),
        "sliding_window": list(config.attention_window),
    }
    model = {
        "encoder": {"config": {**half, "in_channels": config.patch_size}},
        "decoder": {"config": {**half, "out_channels": config.patch_size}},
        "pretransform": {"type": "patched", "config": {"patch_size": config.patch_size}},
        "bottleneck": {"type": "dithered_fsq", "config": {"dim": len(config.levels)}},
        "downsampling_ratio": config.hop_length,
    }
    return {"sample_rate": config.sampling_rate, "model": model}


def test_sizes_in_the_table_are_those_of_the_parameters():
    for preset, weights in PUBLISHED.items():
        with torch.device("meta"):
            model = AutoModel.from_config(preset_config(preset))
        assert weights.megabytes == pytest.approx(4e-6 * model.num_parameters(), rel=0.02), preset
