"""Command line `l3ac`: one module for each command, thin over the library.

Only the standard library is imported before a command runs, so that `l3ac --help` responds immediately.
"""

from .main import main

__all__ = ["main"]
