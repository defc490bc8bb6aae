"""The parts of `experiments/gpu.py`, which run in separate processes with time budgets."""
