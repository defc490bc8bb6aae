"""Slow, obvious versions of the package's algorithms: loops in float64, in NumPy.

Losses are in PyTorch, for their gradients. Tests compare the fast versions with these, and benchmarks time
both. They use nothing of `swahr`.
"""
