"""The page of `l3ac serve` in a headless Chromium: files, ids, a fake microphone; light, dark, wide and narrow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.conversion.trial import SENTENCE
from l3ac_tokenizer.inference import encode_clips
from l3ac_tokenizer.resampling import Resampler
from l3ac_tokenizer.serving.clips import encode_file
from l3ac_tokenizer.serving.models import served_model
from l3ac_tokenizer.serving.recordings import Recordings
from l3ac_tokenizer.serving.view import id_files

pytest.importorskip("gradio", reason="the extra `serve` is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra `dev`)")

from l3ac_tokenizer.serving.page import serve  # noqa: E402 - it imports gradio

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]

LIGHT = "l3ac-1k-light"
SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 844}}
LOOKS = [(size, theme) for size in SIZES for theme in ("light", "dark")]

SECONDS_OF = """async (address) => {
  const data = await (await fetch(address)).arrayBuffer();
  return (await new AudioContext({ sampleRate: 16000 }).decodeAudioData(data)).duration;
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        page, address = serve()
        yield address
        page.close(verbose=False)


@pytest.fixture(scope="module")
def sentence() -> np.ndarray:
    return read_audio(SENTENCE, 48_000)[0]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory, sentence) -> Iterator[Any]:
    """A browser whose microphone speaks the sentence of the demo over and over."""
    spoken = tmp_path_factory.mktemp("microphone") / "sentence.wav"
    soundfile.write(spoken, sentence, 48_000)
    fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *fake, f"--use-file-for-fake-audio-capture={spoken}"]
        )
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, address) -> Iterator[Any]:
    """A function that opens the page of a size and theme; it may ask no other host for anything."""
    contexts, strangers = [], []

    def open_page(size: str = "wide", theme: str = "light") -> Any:
        contexts.append(chromium.new_context(viewport=SIZES[size], permissions=["microphone"], color_scheme=theme))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: strangers.append(request.url) if is_strange(request.url) else None)
        page.goto(f"{address}?__theme={theme}")
        page.get_by_role("button", name="Encode and decode").wait_for()
        return page

    def is_strange(url: str) -> bool:
        return not url.startswith((address, "data:", "blob:"))

    yield open_page
    for context in contexts:
        context.close()
    assert strangers == []


def encode(page: Any, file: str | Path) -> None:
    """Drop a clip and press the button."""
    page.locator("input[type=file]").first.set_input_files(file)
    page.get_by_role("tabpanel").get_by_label("Play", exact=True).first.wait_for()
    page.get_by_role("button", name="Encode and decode").click()


def facts(page: Any) -> dict[str, str]:
    """The facts of the result that is waited for: name → value."""
    page.locator("#facts .facts").wait_for()
    rows = page.eval_on_selector_all("#facts .facts > div", "all => all.map(one => one.innerText.split('\\n'))")
    return {name: value for name, value, *_ in rows}


def shown_ids(page: Any) -> list[int]:
    return list(map(int, page.locator("#ids textarea").input_value().split()))


def seconds_heard(page: Any) -> dict[str, float]:
    """Length of every player of the result, as the browser decodes it."""
    page.locator("a[download='decoded.wav']").wait_for()
    links = page.locator("a[download$='.wav']:visible").all()
    return {each.get_attribute("download"): page.evaluate(SECONDS_OF, each.get_attribute("href")) for each in links}


def test_a_clip_is_heard_seen_and_downloaded(opened, tmp_path):
    page = opened()
    encode(page, SENTENCE)
    told, result = facts(page), encode_file(str(SENTENCE), LIGHT)
    assert told["model"] == LIGHT and told["ids"] == f"{len(result.ids)}"
    assert {"length", "bits", "file", "encoding", "decoding"} <= set(told)
    assert shown_ids(page) == result.ids.tolist()
    seconds = len(result.original) / 16_000
    assert seconds_heard(page) == {name: pytest.approx(seconds, abs=1e-4) for name in ("original.wav", "decoded.wav")}
    widths = page.eval_on_selector_all("img[alt^=Spectrogram]", "all => all.map(one => one.naturalWidth)")
    assert len(widths) == 2 and min(widths) > 300
    for suffix, data in id_files(result).items():
        with page.expect_download() as downloading:
            page.get_by_role("button", name=f"Download .{suffix}").click()
        assert downloading.value.path().read_bytes() == data


def test_ids_are_pasted_or_dropped(opened, tmp_path):
    page, result = opened(), encode_file(str(SENTENCE), LIGHT)
    page.get_by_role("tab", name="Ids").click()
    page.get_by_label("Or paste ids").fill(id_files(result)["json"].decode())
    page.get_by_role("button", name="Decode", exact=True).click()
    told = facts(page)
    assert told["ids"] == f"{len(result.ids)}" and "encoding" not in told
    assert seconds_heard(page) == {"decoded.wav": pytest.approx(len(result.original) / 16_000, abs=1e-4)}
    page.get_by_label("Or paste ids").fill(" ".join(map(str, result.ids[:59])))
    page.get_by_role("button", name="Decode", exact=True).click()
    page.locator("#facts dd", has_text="1.00 s").wait_for()
    path = tmp_path / "clip.l3ac"
    path.write_bytes(id_files(result)["l3ac"])
    page.locator("input[type=file]:visible, [role=tabpanel]:visible input[type=file]").first.set_input_files(path)
    page.locator("#facts dd", has_text="6.46 s").wait_for()
    assert shown_ids(page) == result.ids.tolist()


def test_a_bad_file_gives_the_sentence_of_the_library_and_no_result(opened, tmp_path):
    page = opened()
    encode(page, SENTENCE)
    facts(page)
    page.get_by_role("tab", name="Ids").click()
    page.get_by_label("Or paste ids").fill("<b>hello</b>")
    page.get_by_role("button", name="Decode", exact=True).click()
    refused = page.locator("#facts [role=alert]")
    refused.wait_for()
    assert refused.inner_text().startswith("the text does not hold the ids of a clip (could not convert string '<b>")
    assert not page.locator("#ids").is_visible()
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(121 * 8_000), 8_000)
    page.get_by_role("tab", name="Clip").click()
    page.get_by_label("Clear").first.click()
    encode(page, path)
    page.get_by_text("long.wav is 121.0 s long, more than the 120 s allowed: cut it.").wait_for()


def test_the_microphone_gives_the_ids_of_all_that_it_heard(opened, monkeypatch, sentence):
    sent: list[tuple[int, np.ndarray]] = []
    push = Recordings.push

    def listening(self, key, model, rate, samples):
        sent.append((rate, samples))
        return push(self, key, model, rate, samples)

    monkeypatch.setattr(Recordings, "push", listening)
    page = opened()
    page.get_by_role("tab", name="Live microphone").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_function("Number(document.querySelectorAll('#running dd')[1]?.innerText) > 100")  # while it runs
    page.get_by_role("button", name="Stop and decode").click()
    told = facts(page)

    (rate,) = {rate for rate, _ in sent}
    resampler = Resampler(rate, 16_000)
    heard = [resampler.push(samples.astype(np.float32) / 2**15) for _, samples in sent]
    clip = np.concatenate([*heard, resampler.flush()])
    assert shown_ids(page) == encode_clips(served_model(LIGHT).codec, [clip])[0].tolist()
    assert told["ids"] == f"{len(shown_ids(page))}"
    assert seconds_heard(page)["original.wav"] == pytest.approx(len(clip) / 16_000, abs=1e-4)
    assert alikeness(clip, read_audio(SENTENCE, 16_000)[0]) > 0.95


def alikeness(heard: np.ndarray, sentence: np.ndarray) -> float:
    """Largest correlation of a recording with a part of the repeated sentence; gaps and repetitions lower it."""
    spoken = np.tile(sentence, 4)
    size = 1 << (len(spoken) + len(heard)).bit_length()
    products = np.fft.irfft(np.fft.rfft(spoken, size) * np.conj(np.fft.rfft(heard, size)), size)[: len(spoken)]
    places = np.arange(len(spoken) - len(heard))
    energy = np.concatenate([[0], np.cumsum(spoken**2)])
    powers = energy[places + len(heard)] - energy[places]
    return float(np.max(products[places] / np.sqrt(powers * (heard**2).sum())))


def test_a_clip_is_recorded(opened):
    page = opened("narrow", "dark")
    page.get_by_label("Record audio").click()
    page.get_by_role("button", name="Record", exact=True).first.click()
    page.wait_for_timeout(1_500)
    page.locator("button:visible", has_text="Stop").first.click()
    page.get_by_role("tabpanel").get_by_label("Play", exact=True).first.wait_for()
    page.get_by_role("button", name="Encode and decode").click()
    assert 0.5 < float(facts(page)["length"].removesuffix(" s")) < 5


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_the_page_fits_its_window_in_both_themes(size, theme, opened):
    page = opened(size, theme)
    encode(page, SENTENCE)
    facts(page)
    seconds_heard(page)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    red = int(page.evaluate("getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0])
    ink = int(page.evaluate("getComputedStyle(document.querySelector('.facts dd')).color").split("(")[1].split(",")[0])
    assert (red > 230 and ink < 80) if theme == "light" else (red < 40 and ink > 200)
