"""Evaluation of codecs on folders of audio: `l3ac evaluate`."""
