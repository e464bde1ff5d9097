"""One pass of one codec in a process of its own: peak memory of each direction, or why it could not be done.

    python -m l3ac_tokenizer.evaluation.memory BUILDER ARGUMENTS SECONDS BATCH THREADS LIMIT_BYTES

is the child, which prints JSON; BUILDER is `module:function`, ARGUMENTS a JSON list of what it takes, and what it gives
has `passes(seconds, batch)`: a call that encodes, and one that decodes what that gave. Peaks are the kernel's (`VmHWM`,
set back before each direction; Linux only), and what stood in memory before the pass (libraries, weights, input) is
told apart from what the pass added.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TIME_LIMIT_S = 300.0
"""For one child, building the codec included: what takes longer is called too slow."""

MEMORY_SHARE = 0.6
"""Part of the available memory that one child may take."""

_MIB = 1 << 20


@dataclass(frozen=True)
class Pass:
    """One pass of a codec; numbers are None where `failure` says why.

    Attributes:
        failure: `out of memory (limit …)`, `over … s`, or an error; None if it went through.
        standing_mib: Resident memory before encoding, in MiB.
        encode_mib: Peak of encoding above `standing_mib`.
        decode_mib: Peak of decoding above what stood before it.
        pass_s: Wall time of both directions; one cold pass, to plan with.
    """

    failure: str | None = None
    standing_mib: float | None = None
    encode_mib: float | None = None
    decode_mib: float | None = None
    pass_s: float | None = None


def measure(builder: str, arguments: Sequence[str], seconds: float, batch: int, threads: int) -> Pass:
    """Run the child and say how it ended.

    Args:
        builder: `module:function` of what makes the codec.
        arguments: of that function.
        seconds: length of the clips.
        batch: their number.
        threads: of torch.
    """
    limit = int(MEMORY_SHARE * available_bytes())
    words = [builder, json.dumps(list(arguments)), str(seconds), str(batch), str(threads), str(limit)]
    try:
        child = subprocess.run(
            [sys.executable, "-m", "l3ac_tokenizer.evaluation.memory", *words],
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired:
        return Pass(failure=f"over {TIME_LIMIT_S:g} s")
    if child.returncode == 0:
        return Pass(**json.loads(child.stdout.splitlines()[-1]))
    return Pass(failure=_reason(child.stderr, child.returncode, limit))


def available_bytes() -> int:
    """Memory that a new process can have without swapping."""
    (line,) = (line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024


def _reason(messages: str, status: int, limit: int) -> str:
    last = messages.strip().splitlines()[-1] if messages.strip() else f"exit status {status}"
    signs = ("MemoryError", "bad_alloc", "allocate", "Failed to alloc", "could not create a memory")
    if status == -9 or any(sign in messages for sign in signs):
        return f"out of memory (limit {limit / _MIB / 1024:.1f} GiB)"
    return last[:200]


def _resident_mib(field: str) -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) / 1024


def _forget_peak() -> float:
    """Set the peak back to what is resident now, which is returned."""
    Path("/proc/self/clear_refs").write_text("5")
    return _resident_mib("VmRSS")


def _child(builder: str, arguments: Sequence[str], seconds: float, batch: int, threads: int, limit: int) -> Pass:
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # of pages that are its own, not of addresses
    import torch

    from .timing import timed

    torch.set_num_threads(threads)
    module, _, function = builder.partition(":")
    with torch.inference_mode():
        codec = getattr(importlib.import_module(module), function)(*arguments)
        encode, decode = codec.passes(0.5, 1)
        decode(encode())  # whatever is set up at the first call
        encode, decode = codec.passes(seconds, batch)
        standing = _forget_peak()
        codes, encoding = timed(encode)
        encode_peak = _resident_mib("VmHWM")
        before_decoding = _forget_peak()
        _, decoding = timed(lambda: decode(codes))
        decode_peak = _resident_mib("VmHWM")
    return Pass(
        standing_mib=standing,
        encode_mib=encode_peak - standing,
        decode_mib=decode_peak - before_decoding,
        pass_s=encoding.wall + decoding.wall,
    )


if __name__ == "__main__":
    maker, given, *numbers = sys.argv[1:]
    result = _child(maker, json.loads(given), float(numbers[0]), *map(int, numbers[1:]))
    print(json.dumps(vars(result)))
