"""Full duplex over a WebSocket: a microphone in, ids in the middle, sound out, while one is still speaking.

    python examples/duplex.py both                   # server and client on this machine, and the measured round trip
    python examples/duplex.py serve --port 8765      # or apart: a server,
    python examples/duplex.py talk --seconds 5       # and clients, with a microphone or with --file speech.wav

Needs `pip install aiohttp`, and `pip install sounddevice` for the microphone. A language model of your own goes into
`speak`. The server first sends a list in JSON: the sampling rate, and in samples the length of an id, what an id waits
for, and what sound waits for. It answers binary messages (16-bit little-endian samples, mono), one or several at once,
with a list of the ids that are now decided, and a binary message of the samples that are now decoded. An empty message
ends the clip: its answer holds the rest, and the connection closes with code 1000. Other codes come with a sentence.
"""

import argparse
import asyncio
import contextlib
import logging
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import soundfile
import torch
from aiohttp import WSMsgType, web

import l3ac_tokenizer
from l3ac_tokenizer import CodecModel, StreamingDecoder, StreamingEncoder, read_audio

SENTENCE = Path(l3ac_tokenizer.__file__).parent / "assets" / "demo.flac"
MOST_SESSIONS = 8  # at once
MOST_BYTES = 1 << 16  # of a message: two seconds
GOODBYE_SECONDS = 2.0  # for a client to take the reason why its connection ends


def speak(heard: torch.Tensor, memory: dict[str, Any]) -> torch.Tensor:
    """Ids heard (n,) → ids to say (m,), any m: the place of a language model. Here, what is heard is said.

    Runs in a thread, once for each message. `memory` belongs to the connection: a place for caches.
    """
    return heard


class End(Exception):
    """End of a connection: a close code of RFC 6455, and a sentence of at most 123 bytes."""


# --- server -----------------------------------------------------------------------------------------------------


class Server:
    """Connections to one model, each with its own streams; one that neither sends nor reads for `patience` s ends.

    Memory is bounded: a message is taken when the one before is answered and read, and TCP makes the client wait.
    """

    def __init__(self, model: CodecModel, patience: float = 10.0) -> None:
        self.model, self.patience = model, patience
        self.places = asyncio.Semaphore(MOST_SESSIONS)

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        """Serve a connection from its handshake to its end."""
        client = web.WebSocketResponse(compress=False, writer_limit=0, max_msg_size=16 * MOST_BYTES)
        await client.prepare(request)
        transport = request.transport
        assert transport is not None
        # By itself, the kernel would take minutes of sound for a client that has stopped reading.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST_BYTES)
        if self.places.locked():
            code, reason = 1013, f"All {MOST_SESSIONS} places are taken: try again later."
        else:
            async with self.places:
                code, reason = await self.outcome(client)
        print(f"{request.remote}: {code} {reason}", file=sys.stderr)
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await client.close(code=code, message=reason.encode())
        except TimeoutError:
            transport.abort()  # what a stalled client has not read would stay otherwise
        return client

    async def outcome(self, client: web.WebSocketResponse) -> tuple[int, str]:
        """Code and sentence with which a conversation ends."""
        try:
            await self.converse(client)
        except End as end:
            return end.args[0], end.args[1]
        except ConnectionError:
            return 1006, "The client went away."
        except Exception:
            logging.exception("A conversation failed.")
            return 1011, "The server failed; its log says why."
        return 1000, "The clip has ended."

    async def converse(self, client: web.WebSocketResponse) -> None:
        """Answer messages until an empty one; the networks run in threads, so that the event loop never waits."""
        encoder, decoder, ended = StreamingEncoder(self.model), StreamingDecoder(self.model), False
        config, memory = self.model.config, dict[str, Any]()
        await self.send(client.send_json([config.sampling_rate, config.hop_length, encoder.latency, decoder.latency]))

        def encode(samples: np.ndarray) -> torch.Tensor:
            return torch.cat([*encoder.push(samples), *(encoder.flush() if ended else [])]).cpu()

        def decode(ids: torch.Tensor) -> bytes:
            sound = torch.cat([*decoder.push(speak(ids, memory)), *(decoder.flush() if ended else [])]).cpu()
            return (sound * 32768).round().clamp(-32768, 32767).numpy().astype("<i2").tobytes()

        while not ended:
            samples, ended = await self.receive(client)
            ids = await asyncio.to_thread(encode, samples)
            await self.send(client.send_json(ids.tolist()))
            await self.send(client.send_bytes(await asyncio.to_thread(decode, ids)))

    async def receive(self, client: web.WebSocketResponse) -> tuple[np.ndarray, bool]:
        """The samples (n,) of all messages that wait, at least of one, and whether the clip ends with them.

        Short and long pushes take nearly the same time, so what has piled up is caught up with at once.
        """
        try:
            messages = [await self.message(client, self.patience)]
        except TimeoutError:
            raise End(1008, f"No message came for {self.patience:g} s: send silence, or an empty one to end.") from None
        with contextlib.suppress(TimeoutError):
            while messages[-1] and sum(map(len, messages)) < MOST_BYTES:
                messages.append(await self.message(client, 1e-6))
        return np.frombuffer(b"".join(messages), "<i2"), not messages[-1]

    async def message(self, client: web.WebSocketResponse, seconds: float) -> bytes:
        """The next message."""
        message = await client.receive(seconds)
        if message.type == WSMsgType.TEXT:
            raise End(1003, "A message is text: send samples, in binary messages.")
        if message.type != WSMsgType.BINARY:
            raise ConnectionResetError
        if len(message.data) > MOST_BYTES:
            raise End(1009, f"A message has {len(message.data)} bytes: send at most {MOST_BYTES}.")
        if len(message.data) % 2:
            raise End(1007, f"A message has {len(message.data)} bytes: a sample has two.")
        return message.data

    async def send(self, sending: Coroutine[Any, Any, None]) -> None:
        """Send, and wait until the client has read enough of what it was sent."""
        task = asyncio.ensure_future(sending)  # cancelled, it would keep aiohttp from sending the reason
        done, _ = await asyncio.wait([task], timeout=self.patience)
        if not done:
            raise End(1008, f"The client has read nothing for {self.patience:g} s.")
        await task


def application(model: CodecModel, patience: float = 10.0) -> web.Application:
    """The server as an application of aiohttp."""
    app = web.Application()
    app.router.add_get("/", Server(model, patience).connect)
    return app


def serve(options: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    torch.set_num_threads(1)  # a push is many small operations, which threads do not speed up
    model = CodecModel.from_pretrained(options.model)
    encoder, decoder = StreamingEncoder(model), StreamingDecoder(model)
    decoder.push(encoder.push(torch.zeros(model.config.sampling_rate))[0])  # the first push is slow
    listener = socket.create_server((options.host, options.port))
    print("ws://{}:{}".format(*listener.getsockname()[:2]), flush=True)
    web.run_app(application(model), sock=listener, print=None, access_log=None, shutdown_timeout=1)


# --- client -----------------------------------------------------------------------------------------------------


async def microphone(rate: int, size: int, seconds: float) -> AsyncIterator[bytes]:
    """Blocks of a microphone."""
    import sounddevice

    with sounddevice.RawInputStream(rate, blocksize=size, channels=1, dtype="int16") as device:
        for _ in range(round(seconds * rate / size)):
            block, overflowed = await asyncio.to_thread(device.read, size)
            if overflowed:
                print("Samples of the microphone were lost: the server is too slow.", file=sys.stderr)
            yield bytes(block)


async def recording(rate: int, size: int, path: str) -> AsyncIterator[bytes]:
    """Blocks of a file, each at the time at which a microphone would have it."""
    samples = (read_audio(path, rate)[0] * 32768).round().clip(-32768, 32767).astype("<i2")
    start = time.perf_counter()
    for end in range(size, len(samples) + size, size):
        await asyncio.sleep(start + end / rate - time.perf_counter())
        yield samples[end - size : end].tobytes()


@contextlib.contextmanager
def loudspeaker(rate: int) -> Iterator[Callable[[bytes], None]]:
    """A function that plays samples behind those before them, with silence where they come late."""
    import sounddevice

    waiting = bytearray()

    def fill(out: Any, frames: int, time: Any, status: Any) -> None:
        out[:] = waiting[: len(out)].ljust(len(out), b"\0")
        del waiting[: len(out)]

    with sounddevice.RawOutputStream(rate, channels=1, dtype="int16", callback=fill):
        yield waiting.extend
        sounddevice.sleep(200 + 1000 * len(waiting) // (2 * rate))


async def received(server: aiohttp.ClientWebSocketResponse) -> aiohttp.WSMessage:
    """The next message of the server; `End` if there is none."""
    message = await server.receive()
    if message.type == WSMsgType.CLOSE:
        raise End(message.data, message.extra)
    if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
        raise End(1006, "The server went away.")
    return message


async def talk(url: str, options: argparse.Namespace) -> None:
    """Send blocks, show ids and play sound as they come; at the end, show the round trip."""
    sent, answers, sound = list[float](), list[tuple[float, int, float, int]](), bytearray()
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as server:
        rate, hop, ids_wait, sound_waits = (await received(server)).json()
        size = max(1, round(rate * options.block_ms / 1000))
        path = options.file
        blocks = recording(rate, size, path) if path else microphone(rate, size, options.seconds)

        async def hear(play: Callable[[bytes], None]) -> None:
            count = 0
            while True:
                ids, ids_at = (await received(server)).json(), time.perf_counter()
                count += len(ids)
                print(*ids, flush=True)
                block, sound_at = (await received(server)).data, time.perf_counter()
                sound.extend(block)
                play(block)
                answers.append((ids_at, count * hop, sound_at, len(sound) // 2))

        with contextlib.nullcontext(lambda block: None) if path else loudspeaker(rate) as play:
            hearing = asyncio.create_task(hear(play))
            try:
                with contextlib.suppress(ConnectionError):  # `hear` says why
                    async for block in blocks:
                        sent.append(time.perf_counter())
                        await server.send_bytes(block)
                    await server.send_bytes(b"")
                await hearing
            except End as end:
                if end.args[0] != 1000:
                    raise
            finally:
                hearing.cancel()
    if options.output:
        soundfile.write(options.output, np.frombuffer(sound, "<i2"), rate)
    print(f"{len(sent)} blocks of {1000 * size / rate:g} ms", end="; ")
    print(f"ids look {1000 * ids_wait / rate:.1f} ms ahead, sound {1000 * sound_waits / rate:.1f} ms further")
    print(round_trip(np.array(sent), np.array(answers), size, hop, ids_wait, sound_waits))


def round_trip(sent: np.ndarray, answers: np.ndarray, size: int, hop: int, ids_wait: int, sound_waits: int) -> str:
    """Table of the times, in ms, from sending a block to the id of its last sample, and to that sample decoded.

    The look-ahead is the time until the block was sent that holds the last sample that they depend on; the rest is
    computation and transport. Blocks for which only the end of the clip came are left out.
    """
    ends = size * np.arange(1, len(sent) + 1)
    lines = [f"{'':32}{'median':>8}{'95 %':>8}{'worst':>8}"]
    for name, back, reach, wait in (("ids", *answers.T[:2], 0), ("sound", *answers.T[2:], sound_waits)):
        last = np.ceil((ends + wait) / hop) * hop + ids_wait  # samples that must have been sent
        needed = np.ceil(last / size).astype(int) - 1
        block = np.flatnonzero(needed < len(sent))
        if not len(block):
            return "The clip is too short for the round trip to be measured."
        looking = sent[needed[block]] - sent[block]
        total = back[np.searchsorted(reach, ends[block])] - sent[block]
        rows = {"round trip": total, "look-ahead": looking, "computation, transport": total - looking}
        for row, seconds in rows.items():
            figures = 1000 * np.percentile(seconds, [50, 95, 100])
            lines.append(f"{name + ', ' + row:32}" + "".join(f"{figure:8.1f}" for figure in figures))
    return "\n".join(lines)


async def both(options: argparse.Namespace) -> None:
    """A server in a process of its own, and a client."""
    command = [sys.executable, "-P", __file__, "serve", "--port", "0", "--model", options.model]
    server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert server.stdout is not None
        url = (await server.stdout.readline()).decode().strip()
        if not url:
            raise OSError("The server did not start; it has said why.")
        await talk(url, options)
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.terminate()
        await server.wait()


def main(arguments: list[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=["both", "serve", "talk"])
    parser.add_argument("--model", default="l3ac-1k-light", help="of the server (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="(default: %(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the microphone (default: %(default)s)")
    parser.add_argument("--file", help="speech instead of the microphone; of `both`, by default the demo's sentence")
    parser.add_argument("--output", help="WAV for what came back")
    parser.add_argument("--block-ms", type=float, default=40.0, help="length of a message (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.role == "serve":
        serve(options)
    elif options.role == "talk":
        asyncio.run(talk(f"ws://{options.host}:{options.port}", options))
    else:
        options.file = options.file or str(SENTENCE)
        asyncio.run(both(options))


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(str(error))
    except End as end:
        sys.exit(f"The connection ended with code {end.args[0]}: {end.args[1]}")
