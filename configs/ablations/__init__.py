"""Ablations: one get_config() per file; paper.py declares every key, the others state deltas."""
