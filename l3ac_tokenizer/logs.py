"""Loggers whose messages hold no control characters, whoever prints them."""

from __future__ import annotations

import logging

from .markup import printable


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; names of files and errors in its messages cannot control a terminal."""
    logger = logging.getLogger(name)
    if _make_printable not in logger.filters:
        logger.addFilter(_make_printable)
    return logger


def _make_printable(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage(), keep="\n"), ()
    return True
