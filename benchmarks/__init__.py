"""Measurements of the package: what it costs, and what must not change."""
