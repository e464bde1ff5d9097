"""Codecs under test, each behind the interface `Codec`."""
