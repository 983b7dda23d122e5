"""Records of a dataset -> batches."""
