"""Interfaces of the benchmarks that compare codecs: `codec_superb.py`, and VERSA's configuration `versa.yaml`."""
