"""Benchmarks: speed, memory, precision and invariants of the package."""
