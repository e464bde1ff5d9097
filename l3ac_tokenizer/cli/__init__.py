"""The command line `l3ac`: one file a command, thin over the library.

Only the standard library is imported before a command runs, so that `l3ac --help` answers at once.
"""

from .main import main

__all__ = ["main"]
