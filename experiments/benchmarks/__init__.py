"""Benchmarks: every fast implementation is timed beside a plain version with the same result."""
