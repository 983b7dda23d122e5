"""Modules: one get_config() per file, for python -m densityjax.modules."""
