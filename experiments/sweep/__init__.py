"""Evaluation of many test-time settings with few passes over the network."""
