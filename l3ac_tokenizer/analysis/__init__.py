"""Latency, receptive fields, clip length and loss sensitivity of a codec, for `l3ac analyze`."""
