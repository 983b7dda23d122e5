"""Records of a dataset -> batches.

Files, each importing only from those above it:

  dataset: Datasets by name
  record_index: The small fields of every record
  feature_index: The features of every record
  records: What training knows of the materials of a dataset
  free_targets: What records say of themselves for nothing
  batches: Records -> per-host batches
"""
