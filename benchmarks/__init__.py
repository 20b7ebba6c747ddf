"""Measurements beside the peer, in one process: `python -m benchmarks.NAME --json`, one object a line."""
