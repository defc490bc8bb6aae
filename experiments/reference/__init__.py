"""Slow, obvious versions of the package's algorithms: loops in NumPy, in float64.

Tests compare the fast versions with them, and benchmarks time both. They use nothing of `swahr`.
"""
