"""`l3ac serve`: a page in the browser to hear the codec, with clips, ids and the microphone.

Open the address that it prints; Ctrl-C ends it. It serves all models that are bundled or downloaded.
"""

from __future__ import annotations

import argparse
import sys

from .report import needing_extra, show_facts, show_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `l3ac serve`."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=int, help="port to listen at (default: the first free one from 7860)")


def run(options: argparse.Namespace) -> int:
    """Serve the page until it is interrupted."""
    with needing_extra("serve"):
        import gradio  # noqa: F401
        import matplotlib  # noqa: F401

    from ..serving.page import serve

    page, address = serve(options.host, options.port)
    facts = {"address": address}
    if options.json:
        show_json(facts)
    else:
        show_facts(facts)
    sys.stdout.flush()
    page.block_thread()
    return 0
