"""Metrics of one decoded clip, each computed by a `Scorer`."""
