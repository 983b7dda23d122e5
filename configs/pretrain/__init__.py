"""Pretraining: what is learned without labels; masked.py is the base, the others state deltas."""
