"""Densities of LeMat-Rho: the builder of its parquet shards, and its card."""
