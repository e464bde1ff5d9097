"""Steps of a stream compiled ahead of time by torch's AOTInductor, and kept on disk.

A step takes minutes to compile and milliseconds to load, so compiled ones stay in `cache_folder()/compiled`, named by
everything that they depend on: weights, code, versions and the processor. They are native code: like the programs in
your home, they are to be written by you alone.
"""

from __future__ import annotations

import hashlib
import inspect
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import modeling
from .files import atomic_write
from .modeling.steps import DecoderStep, Step
from .published import cache_folder

OPTIONS: dict[str, Any] = {
    "freezing": True,  # weights are constants: folded and laid out for their products
    "max_autotune": True,
    "cpp.threads": 1,
}
LONG_STEP = 2
"""Number of frames from which steps of convolutional decoders try the products of a library beside Inductor's own. For
products of fewer rows a call of the library costs more than it gains, though it is the faster one when timed alone."""


class NoCompiler(RuntimeError):
    """The machine cannot compile: a C++ compiler is missing, or fails."""


class InPlace(nn.Module):
    """A step that replaces the tensors of its state."""

    def __init__(self, step: Step):
        super().__init__()
        self.step = step

    def forward(self, values: Tensor, end: Tensor, position: Tensor, state: list[Tensor]) -> Tensor:
        """The next input of each clip → output; `state` becomes the new one."""
        output, *new = self.step(values, end, position, *state)
        for old, tensor in zip(state, new, strict=True):
            old.copy_(tensor)
        return output


def compiled_step(step: Step, batch: int) -> Callable[[Tensor, Tensor, Tensor, list[Tensor]], Tensor]:
    """The function (input, end, position, state) → output for `batch` clips, which replaces the tensors of the state.

    Raises:
        NoCompiler: A C++ compiler is missing, or fails.
        OSError: The cache cannot be written.
    """
    path = cache_folder() / "compiled" / f"{_key(step, batch)}.pt2"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            made = _compile(step, batch, Path(scratch) / "step.pt2")
            with atomic_write(path) as file, open(made, "rb") as source:
                shutil.copyfileobj(source, file)
    run: Callable[..., Tensor] = torch._inductor.aoti_load_package(str(path))
    return run


@torch.no_grad()
def _compile(step: Step, batch: int, path: Path) -> Path:
    import torch._inductor.cpp_builder
    from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler

    # Two tensors: one that is given twice would become one argument.
    end, position = torch.zeros(batch, dtype=torch.int64), torch.zeros(batch, dtype=torch.int64)
    try:
        torch._inductor.cpp_builder.get_cpp_compiler()
        program = torch.export.export(
            InPlace(step), (step.example(batch), end, position, step.zeros(batch)), strict=False
        )
        torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=_options(step))
    except (InvalidCxxCompiler, CppCompileError, InductorError) as error:
        raise NoCompiler(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}") from error
    return path


def _options(step: Step) -> dict[str, Any]:
    convolves = isinstance(step, DecoderStep) and hasattr(step.model.decoder, "convolutions")
    many_rows = convolves and step.frames >= LONG_STEP
    return OPTIONS | {"max_autotune_gemm_backends": "ATEN,CPP" if many_rows else "CPP"}


def _key(step: Step, batch: int) -> str:
    """Name of a compiled step, made of everything that it depends on."""
    digest = hashlib.sha256()
    facts = [type(step).__name__, step.frames, batch, torch.__version__, _options(step), _processor()]
    digest.update(repr([*facts, step.model.config.to_diff_dict()]).encode())
    for path in (Path(__file__), *sorted(Path(inspect.getfile(modeling)).parent.rglob("*.py"))):
        digest.update(path.read_bytes())
    for name, tensor in sorted(step.model.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _processor() -> str:
    """Machine, system and the processor's instructions, on which native code depends."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        flags = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        flags = platform.processor()
    return f"{platform.system()} {platform.machine()} {flags}"
