"""The elastic_densities dataset: its builder, its card and the archive it is built from."""
