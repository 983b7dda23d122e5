"""The elastic_densities dataset: its builder, its card, and the archives that it is built from."""
