"""What the pictures of this package have in common."""

from __future__ import annotations

import io
from typing import Any


def open_axis(axis: Any) -> None:
    """A faint grid, and no frame above and to the right, on an axis of matplotlib."""
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def as_png(figure: Any) -> bytes:
    """A figure of matplotlib as a file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
