"""Formats of audio files: where their parts lie, whether bytes are missing, and the decoders that read them.

`layout` is the entrance for a file's structure, with one module per format below it; `decoders` is the entrance for its
samples.
"""
