"""Configs: one get_config() per file; elastic.py declares every key, the others state deltas."""
