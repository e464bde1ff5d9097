"""`examples/duplex.py` over the loopback: exact ids and sound, and clients that stall, send rubbish or go away."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import re
import sys
import threading
import weakref
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from networks import speech_like, tiny

from l3ac_tokenizer import CodecModel

pytest.importorskip("aiohttp", reason="the extra `cloud` is not installed")
from aiohttp import ClientSession, WSMsgType, web
from aiohttp.test_utils import TestServer

PROGRAM = Path(__file__).parents[1] / "examples" / "duplex.py"
RATE = 16_000


@pytest.fixture
def duplex(monkeypatch) -> ModuleType:
    """The example as a module of its own for each test."""
    spec = importlib.util.spec_from_file_location("duplex", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "duplex", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def light() -> CodecModel:
    return CodecModel.from_pretrained("l3ac-1k-light")


@pytest.fixture(scope="module")
def small() -> CodecModel:
    return tiny("tiny-light")


def pcm(seconds: float, seed: int = 0) -> np.ndarray:
    """Speech-like samples (t,) int16."""
    return (speech_like(round(seconds * RATE), seed).numpy() * 2**15).astype("<i2")


@torch.inference_mode()
def whole(model: CodecModel, samples: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Ids and sound (t,), of whole ids, of a clip as `encode` and `decode` give them."""
    encoded = model.encode(torch.from_numpy(samples.astype(np.float32) / 2**15)[None, None])
    return encoded.audio_codes.flatten().tolist(), model.decode(**encoded).audio_values.flatten().numpy()


@contextlib.asynccontextmanager
async def running(app: web.Application):
    """A client's session and the address of the server."""
    async with TestServer(app) as server, ClientSession() as session:
        yield session, str(server.make_url("/"))


async def exchange(session: ClientSession, url: str, samples: np.ndarray, size: int = 320):
    """Ids and sound (t,) of a whole conversation, one answer after another, and how it ends."""
    ids: list[int] = []
    sound = b""
    async with session.ws_connect(url) as server:
        await server.receive_json()
        for block in [*(samples[first : first + size].tobytes() for first in range(0, len(samples), size)), b""]:
            await server.send_bytes(block)
            ids += await server.receive_json()
            sound += await server.receive_bytes()
        return ids, np.frombuffer(sound, "<i2") / 2**15, await ending(server)


async def ending(server) -> tuple[int, str]:
    """Code and sentence with which the server ends the connection; what it sends before is left out."""
    while (message := await server.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
        pass
    assert message.type == WSMsgType.CLOSE
    return message.data, message.extra


def assert_same(answer, model: CodecModel, samples: np.ndarray) -> None:
    """An exchange gave ids and sound of the whole clip."""
    ids, sound = whole(model, samples)
    assert answer[0] == ids and answer[2] == (1000, "The clip has ended.")
    assert len(answer[1]) == len(sound) == len(ids) * model.config.hop_length
    assert np.abs(answer[1] - np.clip(sound, -1, 1)).max() < 1e-4


# --- ids and sound ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [320, 4_801])
def test_ids_and_sound_are_those_of_the_whole_clip(duplex, light, size):
    samples = pcm(0.8)

    async def run():
        async with running(duplex.application(light)) as (session, url):
            return await exchange(session, url, samples, size)

    assert_same(asyncio.run(run()), light, samples)


def test_messages_that_wait_are_taken_together(duplex, small, monkeypatch):
    """A server that has fallen behind catches up; ids and sound are the same."""
    samples, pushes = pcm(0.4), []

    class Counted(duplex.StreamingEncoder):
        def push(self, new):
            pushes.append(len(new))
            return super().push(new)

    monkeypatch.setattr(duplex, "StreamingEncoder", Counted)

    async def run():
        ids, sound = [], b""
        async with running(duplex.application(small)) as (session, url), session.ws_connect(url) as server:
            await server.receive_json()
            for first in range(0, len(samples), 160):
                await server.send_bytes(samples[first : first + 160].tobytes())
            await server.send_bytes(b"")
            while (message := await server.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
                if message.type == WSMsgType.TEXT:
                    ids += message.json()
                else:
                    sound += message.data
            return ids, np.frombuffer(sound, "<i2") / 2**15, (message.data, message.extra)

    assert_same(asyncio.run(run()), small, samples)
    assert sum(pushes) == len(samples) and len(pushes) < 20  # of 40 messages


def test_clients_at_once_get_their_own(duplex, light):
    clips = [pcm(0.5, seed) for seed in (1, 2)]

    async def run():
        async with running(duplex.application(light)) as (session, url):
            return await asyncio.gather(*(exchange(session, url, clip) for clip in clips))

    for answer, clip in zip(asyncio.run(run()), clips, strict=True):
        assert_same(answer, light, clip)


def test_the_first_message_says_what_the_client_must_know(duplex, light):
    async def run():
        async with running(duplex.application(light)) as (session, url), session.ws_connect(url) as server:
            return await server.receive_json()

    assert asyncio.run(run()) == [RATE, 270, light.encoder_lookahead, light.decoder_lookahead]


def test_a_language_model_stands_between_ids_heard_and_ids_said(duplex, small, monkeypatch):
    memories: list[Any] = []

    def speak(heard, memory):
        memories.append(memory)
        memory["blocks"] = memory.get("blocks", 0) + 1
        return heard.repeat_interleave(2)

    monkeypatch.setattr(duplex, "speak", speak)
    samples = pcm(0.2)

    async def run():
        async with running(duplex.application(small)) as (session, url):
            return [await exchange(session, url, samples) for _ in range(2)]

    ids, _ = whole(small, samples)
    said = torch.tensor(ids).repeat_interleave(2)
    with torch.inference_mode():
        expected = small.decode(said[None, None]).audio_values.flatten().numpy()
    for answer in asyncio.run(run()):
        assert answer[0] == ids and np.abs(answer[1] - np.clip(expected, -1, 1)).max() < 1e-4
    assert [memory["blocks"] for memory in (memories[0], memories[-1])] == [11, 11]  # one memory for each connection


def test_computing_for_one_client_keeps_no_other_waiting(duplex, small, monkeypatch):
    samples, going_on = pcm(0.2), threading.Event()

    def speak(heard, memory):
        if memory.setdefault("first", not claimed):
            claimed.append(True)
            assert going_on.wait(60)
        return heard

    claimed: list[bool] = []
    monkeypatch.setattr(duplex, "speak", speak)

    async def run():
        async with running(duplex.application(small)) as (session, url):
            slow = asyncio.create_task(exchange(session, url, samples))
            while not claimed:
                await asyncio.sleep(0.001)
            quick = await exchange(session, url, samples)
            assert not slow.done()
            going_on.set()
            return quick, await slow

    for answer in asyncio.run(run()):
        assert_same(answer, small, samples)


# --- clients that do not keep to the protocol -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rubbish", "end"),
    [
        ("hello", (1003, "A message is text: send samples, in binary messages.")),
        (b"123", (1007, "A message has 3 bytes: a sample has two.")),
        (bytes(65_538), (1009, "A message has 65538 bytes: send at most 65536.")),
        (bytes(2_000_000), (1009, "")),  # not even read
    ],
    ids=["text", "odd", "large", "very large"],
)
def test_rubbish_ends_its_own_connection_with_a_sentence(duplex, small, rubbish, end):
    samples = pcm(0.1)

    async def run():
        async with running(duplex.application(small)) as (session, url), session.ws_connect(url) as server:
            await server.send_bytes(samples.tobytes())
            await (server.send_str if isinstance(rubbish, str) else server.send_bytes)(rubbish)
            return await ending(server), await exchange(session, url, samples)

    ended, answer = asyncio.run(run())
    assert ended == end
    assert_same(answer, small, samples)


def test_every_sentence_fits_into_a_close_frame():
    sentences = re.findall(r'(?:End\(\d+, f?|10\d\d, f?)"([^"]+)"', PROGRAM.read_text("utf-8"))
    assert len(sentences) >= 10
    assert all(len(re.sub(r"\{[^}]*\}", "1234567", sentence).encode()) <= 123 for sentence in sentences)


class Instant:
    """A stream in both directions that costs no time: an id for each two samples, and two zeros for each id."""

    latency = 0

    def __init__(self, model):
        self.taken = 0

    def push(self, new):
        self.taken += len(new)
        return [torch.zeros(2 * len(new)) if isinstance(new, torch.Tensor) else torch.zeros(len(new) // 2, dtype=int)]


def test_a_client_that_does_not_read_is_made_to_wait_and_then_ended(duplex, small, monkeypatch):
    """Its samples are no longer taken, so nothing grows; if it reads again, it finds the reason."""
    monkeypatch.setattr(duplex, "GOODBYE_SECONDS", 60)
    over, outcome, encoders = asyncio.Event(), duplex.Server.outcome, []
    monkeypatch.setattr(duplex, "StreamingEncoder", lambda model: encoders.append(Instant(model)) or encoders[-1])
    monkeypatch.setattr(duplex, "StreamingDecoder", Instant)

    async def told(self, client):
        end = await outcome(self, client)
        over.set()
        return end

    monkeypatch.setattr(duplex.Server, "outcome", told)

    async def run():
        app = duplex.application(small, patience=0.2)
        async with running(app) as (session, url), session.ws_connect(url) as server:
            flooding = asyncio.create_task(flood(server))
            await over.wait()
            assert not flooding.done()  # it waits
            ended = await ending(server)
            flooding.cancel()
            return ended

    assert asyncio.run(run()) == (1008, "The client has read nothing for 0.2 s.")
    assert 0 < 2 * encoders[0].taken < 8 << 20  # bytes: what fits into the buffers of the kernel and of both programs


async def flood(server) -> None:
    """Send without an end, and read nothing, until the connection is gone."""
    with contextlib.suppress(ConnectionError):
        while True:
            await server.send_bytes(bytes(1 << 15))


def test_a_client_that_never_reads_again_loses_its_place(duplex, small, monkeypatch):
    monkeypatch.setattr(duplex, "GOODBYE_SECONDS", 0.1)
    monkeypatch.setattr(duplex, "MOST_SESSIONS", 1)
    samples = pcm(0.1)

    async def run():
        async with running(duplex.application(small, patience=0.2)) as (session, url):
            with monkeypatch.context() as patched:
                patched.setattr(duplex, "StreamingEncoder", Instant)
                patched.setattr(duplex, "StreamingDecoder", Instant)
                async with session.ws_connect(url) as server:
                    await flood(server)
            return await exchange(session, url, samples)

    assert_same(asyncio.run(run()), small, samples)


def test_a_client_that_sends_nothing_is_ended(duplex, small):
    async def run():
        app = duplex.application(small, patience=0.1)
        async with running(app) as (session, url), session.ws_connect(url) as server:
            return await ending(server)

    assert asyncio.run(run()) == (1008, "No message came for 0.1 s: send silence, or an empty one to end.")


def test_a_client_that_goes_away_leaves_nothing_behind(duplex, small, monkeypatch):
    """Neither its streams nor its place, even if it goes while it is computed for."""
    monkeypatch.setattr(duplex, "MOST_SESSIONS", 1)
    streams: list[weakref.ref] = []
    samples, computing = pcm(0.1), asyncio.Event()

    class Watched(duplex.StreamingEncoder):
        def __init__(self, model):
            super().__init__(model)
            streams.append(weakref.ref(self))

    monkeypatch.setattr(duplex, "StreamingEncoder", Watched)

    async def run():
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(duplex, "speak", lambda ids, memory: loop.call_soon_threadsafe(computing.set) and ids)
        async with running(duplex.application(small)) as (session, url):
            async with session.ws_connect(url) as server:
                await server.send_bytes(pcm(2.0).tobytes())
                await computing.wait()
                server._response.connection.transport.abort()
            while streams[0]() is not None:  # the test's time limit ends this if it stays
                await asyncio.sleep(0.01)
                gc.collect()
            return await exchange(session, url, samples)

    assert_same(asyncio.run(run()), small, samples)
    assert len(streams) == 2


def test_a_client_too_many_is_told_so_until_a_place_is_free(duplex, small, monkeypatch):
    monkeypatch.setattr(duplex, "MOST_SESSIONS", 2)
    samples = pcm(0.1)

    async def run():
        app = duplex.application(small)
        async with running(app) as (session, url), session.ws_connect(url) as first, session.ws_connect(url) as second:
            for server in (first, second):
                await server.receive_json()
            async with session.ws_connect(url) as third:
                refused = await ending(third)
            await first.send_bytes(b"")
            await ending(first)
            return refused, await exchange(session, url, samples)

    refused, answer = asyncio.run(run())
    assert refused == (1013, "All 2 places are taken: try again later.")
    assert_same(answer, small, samples)


def test_a_language_model_that_fails_ends_its_own_connection_only(duplex, small, monkeypatch):
    wrong = iter([torch.tensor([small.config.codebook_size])])
    monkeypatch.setattr(duplex, "speak", lambda ids, memory: next(wrong, ids))
    samples = pcm(0.1)

    async def run():
        async with running(duplex.application(small)) as (session, url), session.ws_connect(url) as server:
            await server.send_bytes(samples.tobytes())
            return await ending(server), await exchange(session, url, samples)

    ended, answer = asyncio.run(run())
    assert ended == (1011, "The server failed; its log says why.")
    assert_same(answer, small, samples)


# --- the command ------------------------------------------------------------------------------------------------

TABLE = ["round trip", "look-ahead", "computation, transport"]


def test_both_ends_on_the_loopback_print_ids_and_the_round_trip(duplex, light, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PROGRAM.parents[1]))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    samples = pcm(0.7)
    soundfile.write(tmp_path / "speech.wav", samples, RATE)
    duplex.main(["both", "--file", str(tmp_path / "speech.wav"), "--output", str(tmp_path / "back.wav")])
    *printed, facts, header, ids, ids_ahead, _, sound, sound_ahead, _ = capsys.readouterr().out.splitlines()
    expected, decoded = whole(light, samples)
    assert [int(number) for line in printed for number in line.split()] == expected
    back, _ = soundfile.read(tmp_path / "back.wav")
    assert np.abs(back - decoded).max() < 1e-4
    assert facts == "18 blocks of 40 ms; ids look 79.8 ms ahead, sound 59.0 ms further"
    assert header.split() == ["median", "95", "%", "worst"]
    waits, more = (float(line.split()[-3]) for line in (ids_ahead, sound_ahead))
    assert waits >= 79.8 and more >= 79.8 + 59.0
    assert float(ids.split()[-3]) > waits and float(sound.split()[-3]) > more


def test_the_round_trip_is_that_of_the_last_sample_of_each_block(duplex):
    """Blocks of 10 samples at 0, 1, 2 and 3 s, ids of 5 samples that look 3 ahead, and sound 4 further."""
    sent = np.array([0.0, 1.0, 2.0, 3.0])
    answers = np.array(
        [(0.1, 5, 0.2, 0), (1.1, 15, 1.2, 10), (3.2, 35, 3.6, 30), (3.7, 40, 3.9, 40)]
    )  # two taken at once
    lines = duplex.round_trip(sent, answers, 10, 5, 3, 4).splitlines()[1:]
    figures = np.array([line.split()[-3:] for line in lines], dtype=float)
    # The ids of the first three blocks come with the next block, and their sound, too: 10 + 4 samples are 3 ids.
    assert [line[:32].strip() for line in lines] == [f"{name}, {row}" for name in ("ids", "sound") for row in TABLE]
    assert np.allclose(figures[:, 0], [1200, 1000, 200, 1600, 1000, 600])
    assert np.allclose(figures[:, 2], [2200, 1000, 1200, 2600, 1000, 1600])
    assert "too short" in duplex.round_trip(sent[:1], answers[:1], 10, 5, 3, 4)


def test_a_microphone_is_heard_and_the_sound_played(duplex, light, monkeypatch, capsys):
    samples, played = pcm(0.5), bytearray()

    class Microphone:
        def __init__(self, rate, blocksize, channels, dtype):
            assert (rate, blocksize, channels, dtype) == (RATE, 800, 1, "int16")
            self.at = 0

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        def read(self, size):
            self.at += size
            return memoryview(samples[self.at - size : self.at].tobytes()), False

    class Loudspeaker(Microphone):
        def __init__(self, rate, channels, dtype, callback):
            assert (rate, channels, dtype) == (RATE, 1, "int16")
            self.play = callback

        def __exit__(self, *exception):
            while any(block := self.heard()):
                played.extend(block)

        def heard(self) -> bytearray:
            out = bytearray(320)
            self.play(memoryview(out), 160, None, None)
            return out

    device = ModuleType("sounddevice")
    device.RawInputStream, device.RawOutputStream = Microphone, Loudspeaker
    device.sleep = lambda milliseconds: None
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    options = SimpleNamespace(file=None, seconds=0.5, block_ms=50, output=None)

    async def run():
        async with running(duplex.application(light)) as (_, url):
            await duplex.talk(url, options)

    asyncio.run(run())
    ids, sound = whole(light, samples)
    printed = re.match(r"[\d\s]+?(?=10 blocks)", capsys.readouterr().out)
    assert printed is not None and list(map(int, printed[0].split())) == ids
    heard = np.frombuffer(played, "<i2")[: len(sound)] / 2**15
    assert np.abs(heard - sound).max() < 1e-4


def test_a_refused_client_is_told_why(duplex, small, monkeypatch):
    monkeypatch.setattr(duplex, "MOST_SESSIONS", 0)
    options = SimpleNamespace(file="speech.wav", block_ms=20, output=None)

    async def run():
        async with running(duplex.application(small)) as (_, url):
            await duplex.talk(url, options)

    with pytest.raises(duplex.End) as end:
        asyncio.run(run())
    assert end.value.args == (1013, "All 0 places are taken: try again later.")
