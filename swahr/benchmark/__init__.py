"""What things cost: every fast path beside the plain one that it must equal, timed in the same run."""
