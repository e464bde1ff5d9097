"""The page, made with Gradio."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import gradio
import numpy as np
from gradio.processing_utils import save_bytes_to_cache

from ..causes import failure
from ..conversion.trial import SENTENCE
from ..hub import DEFAULT_MODEL
from ..limits import SERVED_BYTES, SERVED_SECONDS
from ..markup import html_text
from .clips import Result, decode_file, decode_text, encode_file
from .microphone import Microphone
from .models import served_names
from .view import STYLE, id_files, progress_facts, result_facts, spectrograms, wav

TITLE = "L3AC: speech as ids"
_KEPT_SECONDS = 3600
_WAITING = 32
"""Longest queue of visitors; those beyond are asked to come back."""
_RECORDINGS = 4
"""Recordings that are encoded at once."""


def serve(host: str | None = None, port: int | None = None) -> tuple[gradio.Blocks, str]:
    """Start to serve the page.

    Args:
        host: address to listen at; None: `GRADIO_SERVER_NAME`, or this machine alone.
        port: port to listen at; None: `GRADIO_SERVER_PORT`, or the first free one from 7860.

    Returns:
        The page, whose `block_thread()` waits until it is interrupted, and its address.

    Raises:
        OSError: The port is in use.
    """
    page = _page()
    page.queue(max_size=_WAITING, default_concurrency_limit=1)
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            ssr_mode=False,
            run_history=False,
            footer_links=["api"],
            max_file_size=int(SERVED_BYTES.value),
            theme=gradio.themes.Default(primary_hue="cyan", font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css=STYLE,
        )
    except OSError as error:
        where = "all ports from 7860 on are in use" if port is None else f"port {port} is in use"
        raise OSError(f"{where}, or cannot be opened: choose another port.") from error
    return page, address


def _page() -> gradio.Blocks:
    """The components of the page and what their events do."""
    names = served_names()
    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(_KEPT_SECONDS, _KEPT_SECONDS)) as page:
        gradio.Markdown(
            f"# {TITLE}\n\nA neural codec turns each frame of audio into one id, and ids into audio again. Clips of up "
            f"to {SERVED_SECONDS.value:g} s and files of up to {SERVED_BYTES.value / 2**20:g} MB; they are deleted "
            "after an hour."
        )
        model = gradio.Dropdown(names, value=DEFAULT_MODEL if DEFAULT_MODEL in names else names[0], label="Model")
        with gradio.Tab("Clip"):
            clip = gradio.Audio(sources=["upload", "microphone"], type="filepath", label="Record or drop a clip")
            gradio.Examples([[str(SENTENCE)]], [clip], label="Example")
            encode = gradio.Button("Encode and decode", variant="primary")
        with gradio.Tab("Ids"):
            file = gradio.File(
                file_types=[".l3ac", ".json", ".npy", ".txt"], label="Drop a .l3ac or .json file", height=140
            )
            text = gradio.Textbox(label="Or paste ids, or the JSON of a file", lines=3, max_lines=6)
            decode = gradio.Button("Decode", variant="primary")
        with gradio.Tab("Live microphone"):
            microphone = gradio.Audio(sources=["microphone"], streaming=True, label="Ids appear while you speak")
            running = gradio.HTML(visible=False)
            recording = gradio.State(None, time_to_live=_KEPT_SECONDS)
        shown = _Shown()

        common: dict[str, Any] = {"outputs": shown.components, "concurrency_id": "codec"}
        encode.click(shown.making(encode_file), [clip, model], api_name="encode", **common)
        file.upload(shown.making(decode_file), [file, model], api_name="decode_file", **common)
        decode.click(shown.making(decode_text), [text, model], api_name="decode", **common)
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        microphone.start_recording(lambda: None, None, recording, **quiet)
        microphone.stream(
            _push, [microphone, recording, model], [running, recording], concurrency_limit=_RECORDINGS, **quiet
        )
        microphone.stop_recording(shown.making(_finish), [recording, model], api_visibility="private", **common)
    return page


class _Shown:
    """The part of the page that shows a result."""

    def __init__(self) -> None:
        with gradio.Column(visible=False) as self._whole:
            self._facts = gradio.HTML()
            with gradio.Row():
                with gradio.Column(min_width=300) as self._left:
                    self._original = gradio.Audio(label="Original", interactive=False, buttons=["download"])
                    self._original_picture = gradio.Image(label="Spectrogram of the original", buttons=["fullscreen"])
                with gradio.Column(min_width=300):
                    self._decoded = gradio.Audio(label="What the ids keep", interactive=False, buttons=["download"])
                    self._decoded_picture = gradio.Image(
                        label="Spectrogram of what the ids keep", buttons=["fullscreen"]
                    )
            self._ids = gradio.Textbox(elem_id="ids", label="Ids", lines=3, max_lines=6, buttons=["copy"], interactive=False)
            self._files = gradio.File(label="The ids as files", file_count="multiple", interactive=False)
        self.components = [
            self._whole,
            self._facts,
            self._left,
            self._original,
            self._original_picture,
            self._decoded,
            self._decoded_picture,
            self._ids,
            self._files,
        ]

    def making(self, work: Callable[..., Result]) -> Callable[..., list[Any]]:
        """An event that shows the result of `work`, or its error as a sentence."""

        def event(*arguments: Any) -> list[Any]:
            with _errors_shown():
                result = work(*arguments)
            return self._values(result)

        return event

    def _values(self, result: Result) -> list[Any]:
        rate = result.header.sampling_rate
        original_picture, decoded_picture = spectrograms(result)
        return [
            gradio.Column(visible=True),
            result_facts(result),
            gradio.Column(visible=result.original is not None),
            None if result.original is None else self._file("original.wav", wav(result.original, rate)),
            None if original_picture is None else self._file("original.png", original_picture),
            self._file("decoded.wav", wav(result.decoded, rate)),
            self._file("decoded.png", decoded_picture),
            " ".join(map(str, result.ids.tolist())),
            [self._file(name, data) for name, data in id_files(result).items()],
        ]

    def _file(self, name: str, data: bytes) -> str:
        """The path of a new file that the page may show."""
        return save_bytes_to_cache(data, name, self._files.GRADIO_CACHE)


def _push(
    chunk: tuple[int, np.ndarray] | None, recording: Microphone | None, model: str
) -> tuple[Any, Microphone | None]:
    """Give the newest chunk of the microphone to its recording, and show how far that is."""
    if chunk is None:
        return gradio.skip(), recording
    if recording is None or recording.is_finished:
        recording = Microphone(model)
    with _errors_shown():
        progress = recording.push(*chunk)
    return gradio.HTML(progress_facts(progress), visible=True), recording


def _finish(recording: Microphone | None, model: str) -> Result:
    return (recording or Microphone(model)).finish()


@contextlib.contextmanager
def _errors_shown() -> Iterator[None]:
    """Show the error of a visitor's data on the page, as the sentence that the library gives."""
    try:
        yield
    except (ValueError, OSError, MemoryError) as error:
        raise gradio.Error(html_text(failure(error)), duration=None, print_exception=False) from error
