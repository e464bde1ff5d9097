"""The page, made with Gradio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastapi
import gradio
import numpy as np
from gradio.processing_utils import save_bytes_to_cache

from ..causes import failure
from ..conversion.trial import SENTENCE
from ..hub import DEFAULT_MODEL
from ..limits import SERVED_BYTES, SERVED_SECONDS, check_rate
from .clips import Result, decode_file, decode_text, encode_file
from .models import served_names
from .recordings import Recordings
from .view import STYLE, id_files, progress_facts, refusal, result_facts, spectrograms, wav

TITLE = "L3AC: speech as ids"
_KEPT_SECONDS = 3600
_CLEANING_SECONDS = 600
_WAITING = 32
"""Longest queue of visitors; those beyond are asked to come back."""
_SCRIPT = Path(__file__).parent / "microphone.js"


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
    recordings = Recordings()
    page = _page(recordings)
    page.queue(max_size=_WAITING, default_concurrency_limit=1)
    try:
        app, address, _ = page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            run_history=False,
            footer_links=[],
            max_file_size=int(SERVED_BYTES.value),
            theme=gradio.themes.Default(
                primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["monospace"]
            ),
            css=STYLE,
            head=f"<script>{_SCRIPT.read_text('utf-8')}</script>",
        )
    except OSError as error:
        where = "all ports from 7860 on are in use" if port is None else f"port {port} is in use"
        raise OSError(f"{where}, or cannot be opened: choose another port.") from error
    _add_recording(app, recordings)
    return page, address


def _add_recording(app: fastapi.FastAPI, recordings: Recordings) -> None:
    """Add the address to which `microphone.js` sends samples.

    Gradio has a streaming input of its own. It keeps only the newest chunk that waits and leaves out the last one, so
    that the ids would not be those of the recording.
    """

    @app.post("/recording/{key}")
    def push(key: str, model: str, rate: int, samples: bytes = fastapi.Depends(_body)) -> dict[str, Any]:
        try:
            SERVED_BYTES.check(len(samples), f"the chunk has {len(samples):,} bytes")
            rate = check_rate(rate, "the microphone")
            progress = recordings.push(key, model, rate, np.frombuffer(samples, "<i2"))
        except ValueError as error:
            return {"error": failure(error)}
        return {"html": progress_facts(progress), "full": progress.full}


async def _body(request: fastapi.Request) -> bytes:
    """The body of a request, as far as it may go and one byte beyond."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > SERVED_BYTES.value:
            break
    return bytes(body)


def _page(recordings: Recordings) -> gradio.Blocks:
    """The components of the page and what their events do."""
    names = served_names()
    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(_CLEANING_SECONDS, _KEPT_SECONDS)) as page:
        gradio.Markdown(
            f"# {TITLE}\n\nA neural codec turns each frame of audio into one id, and ids into audio again. Clips of up "
            f"to {SERVED_SECONDS.value:g} s and files of up to {SERVED_BYTES.value / 2**20:g} MB; they are deleted "
            "after an hour."
        )
        model = gradio.Dropdown(names, value=DEFAULT_MODEL if DEFAULT_MODEL in names else names[0], label="Model")
        with gradio.Tab("Clip"):
            clip = gradio.Audio(
                sources=["upload", "microphone"], type="filepath", label="Record or drop a clip", buttons=[]
            )
            gradio.Examples([[str(SENTENCE)]], [clip], label="Example")
            encode = gradio.Button("Encode and decode", variant="primary")
        with gradio.Tab("Ids"):
            file = gradio.File(
                file_types=[".l3ac", ".json", ".npy", ".txt"], label="Drop a .l3ac or .json file", height=140
            )
            text = gradio.Textbox(label="Or paste ids, or the JSON of a file", lines=3, max_lines=6)
            decode = gradio.Button("Decode", variant="primary")
        with gradio.Tab("Live microphone"):
            gradio.Markdown("The microphone is encoded while you speak.")
            with gradio.Row():
                record = gradio.Button("Record", variant="primary")
                stop = gradio.Button("Stop and decode", interactive=False)
            gradio.HTML(elem_id="running", padding=False)
            key = gradio.Textbox(visible=False)
        shown = _Shown()

        shown.on(encode.click, encode_file, [clip, model])
        shown.on(file.upload, decode_file, [file, model])
        shown.on(decode.click, decode_text, [text, model])
        shown.on(stop.click, recordings.finish, [key], js="() => microphone.stop()")
        quiet: dict[str, Any] = {"api_visibility": "private", "queue": False}
        record.click(
            lambda: [gradio.Button(interactive=False), gradio.Button(interactive=True), *shown.nothing()],
            None,
            [record, stop, *shown.outputs],
            **quiet,
        )
        stop.click(
            lambda: [gradio.Button(interactive=True), gradio.Button(interactive=False)], None, [record, stop], **quiet
        )
        record.click(None, [model], None, js="(model) => { microphone.start(model); }", api_visibility="private")
    return page


class _Shown:
    """The part of the page that shows a result, or why there is none."""

    def __init__(self) -> None:
        self._facts = gradio.HTML(elem_id="facts", padding=False)
        with gradio.Column(visible=False) as self._whole:
            with gradio.Row():
                with gradio.Column(min_width=300) as self._left:
                    self._original = gradio.Audio(label="Original", interactive=False, buttons=["download"])
                    self._original_picture = _picture("Spectrogram of the original")
                with gradio.Column(min_width=300):
                    self._decoded = gradio.Audio(label="What the ids keep", interactive=False, buttons=["download"])
                    self._decoded_picture = _picture("Spectrogram of what the ids keep")
            self._ids = gradio.Textbox(
                elem_id="ids", label="Ids", lines=3, max_lines=6, buttons=["copy"], interactive=False
            )
            with gradio.Row():
                self._files = {name: gradio.DownloadButton(f"Download .{name}") for name in ("l3ac", "json")}
        self.outputs: list[Any] = [
            self._facts,
            self._whole,
            self._left,
            self._original,
            self._original_picture,
            self._decoded,
            self._decoded_picture,
            self._ids,
            *self._files.values(),
        ]

    def on(
        self, event: Callable[..., Any], work: Callable[..., Result], inputs: list[Any], js: str | None = None
    ) -> None:
        """Show the result of `work` at an event, or its error as the sentence that the library gives."""

        def shown(*values: Any) -> list[Any]:
            try:
                result = work(*values)
            except (ValueError, OSError, MemoryError) as error:
                return self.nothing(refusal(failure(error)))
            return self._values(result)

        event(
            shown,
            inputs,
            self.outputs,
            js=js,
            show_progress_on=self._facts,
            concurrency_id="codec",
            api_visibility="private",
        )

    def nothing(self, message: str = "") -> list[Any]:
        """Values of the outputs that show a message alone, HTML."""
        return [message, gradio.Column(visible=False), *[gradio.skip()] * (len(self.outputs) - 2)]

    def _values(self, result: Result) -> list[Any]:
        rate = result.header.sampling_rate
        original_picture, decoded_picture = spectrograms(result)
        return [
            result_facts(result),
            gradio.Column(visible=True),
            gradio.Column(visible=result.original is not None),
            None if result.original is None else self._file("original.wav", wav(result.original, rate)),
            None if original_picture is None else self._file("original.png", original_picture),
            self._file("decoded.wav", wav(result.decoded, rate)),
            self._file("decoded.png", decoded_picture),
            " ".join(map(str, result.ids.tolist())),
            *(self._file(f"clip.{name}", data) for name, data in id_files(result).items()),
        ]

    def _file(self, name: str, data: bytes) -> str:
        """The path of a new file that the page may show."""
        return save_bytes_to_cache(data, name, self._decoded.GRADIO_CACHE)


def _picture(description: str) -> gradio.Image:
    return gradio.Image(show_label=False, alt_text=description, buttons=["fullscreen"], interactive=False)
