"""Peak memory of one pass of a codec, measured in a separate process (Linux only).

    python -m l3ac_tokenizer.evaluation.memory BUILDER ARGUMENTS SECONDS BATCH THREADS LIMIT_BYTES

is that process, which prints JSON. BUILDER is `module:function` of a function that takes the JSON list ARGUMENTS and
returns a `Codec`. Peaks are the kernel's (`VmHWM`, reset before each direction). Memory that is resident before the
pass (libraries, weights, input) is reported separately from what the pass adds.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..children import module_command

TIME_LIMIT_S = 300.0
"""Time limit of the separate process in seconds, including building the codec."""

MEMORY_SHARE = 0.6
"""Share of the available memory that the separate process may use."""

_MIB = 1 << 20


@dataclass(frozen=True)
class MeasuredPass:
    """Memory and time of one pass; the numbers are None if it failed.

    Attributes:
        failure: `out of memory (limit …)`, `over … s`, or an error; None if it succeeded.
        standing_mib: Resident memory before encoding, in MiB.
        encode_mib: Peak of encoding above `standing_mib`.
        decode_mib: Peak of decoding above the resident memory before it.
        pass_s: Wall time of both directions in seconds; a single cold pass, for planning.
    """

    failure: str | None = None
    standing_mib: float | None = None
    encode_mib: float | None = None
    decode_mib: float | None = None
    pass_s: float | None = None


def measure_pass(builder: str, arguments: Sequence[str], seconds: float, batch: int, threads: int) -> MeasuredPass:
    """Measure one pass in a separate process.

    Args:
        builder: `module:function` of a function that returns the codec.
        arguments: arguments of that function.
        seconds: length of the clips in seconds.
        batch: number of clips.
        threads: number of torch threads.
    """
    if not sys.platform.startswith("linux"):
        return MeasuredPass(failure="memory is measured on Linux only")
    limit = int(MEMORY_SHARE * available_bytes())
    words = [builder, json.dumps(list(arguments)), str(seconds), str(batch), str(threads), str(limit)]
    try:
        child = subprocess.run(
            module_command("l3ac_tokenizer.evaluation.memory", *words),
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(_import_path())},
        )
    except subprocess.TimeoutExpired:
        return MeasuredPass(failure=f"over {TIME_LIMIT_S:g} s")
    if child.returncode == 0:
        return MeasuredPass(**json.loads(child.stdout.splitlines()[-1]))
    return MeasuredPass(failure=_reason(child.stderr, child.returncode, limit))


def _import_path() -> list[str]:
    """The folders that this process imports from, without the working directory, unless this package lies there."""
    here, package = os.path.realpath("."), str(Path(__file__).parents[2])
    return [*(entry for entry in sys.path if entry and os.path.realpath(entry) != here), package]


def available_bytes() -> int:
    """Memory in bytes that a new process can use without swapping."""
    (line,) = (
        line
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("MemAvailable")
    )
    return int(line.split()[1]) * 1024


def _reason(messages: str, status: int, limit: int) -> str:
    last = messages.strip().splitlines()[-1] if messages.strip() else f"exit status {status}"
    signs = (
        "MemoryError",
        "bad_alloc",
        "allocate",
        "Failed to alloc",
        "could not create a memory",
        "failed to map segment",
    )
    if status == -9 or any(sign in messages for sign in signs):
        return f"out of memory (limit {limit / _MIB / 1024:.1f} GiB)"
    return last[:200]


def _resident_mib(field: str) -> float:
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        if line.startswith(field + ":")
    )
    return int(line.split()[1]) / 1024


def _forget_peak() -> float:
    """Reset the peak to the memory that is resident now, which is returned in MiB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return _resident_mib("VmRSS")


def _child(
    builder: str, arguments: Sequence[str], seconds: float, batch: int, threads: int, limit: int
) -> MeasuredPass:
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # private pages, not address space
    import torch

    from .timing import timed

    torch.set_num_threads(threads)
    module, _, function = builder.partition(":")
    with torch.inference_mode():
        codec = getattr(importlib.import_module(module), function)(*arguments)
        encode, decode = codec.passes(0.5, 1)
        decode(encode())  # one-time set-up
        encode, decode = codec.passes(seconds, batch)
        standing = _forget_peak()
        encoded, encoding = timed(encode)
        encode_peak = _resident_mib("VmHWM")
        before_decoding = _forget_peak()
        _, decoding = timed(lambda: decode(encoded))
        decode_peak = _resident_mib("VmHWM")
    return MeasuredPass(
        standing_mib=standing,
        encode_mib=encode_peak - standing,
        decode_mib=decode_peak - before_decoding,
        pass_s=encoding.wall + decoding.wall,
    )


if __name__ == "__main__":
    builder_name, builder_arguments, *numbers = sys.argv[1:]
    result = _child(builder_name, json.loads(builder_arguments), float(numbers[0]), *map(int, numbers[1:]))
    print(json.dumps(vars(result)))
