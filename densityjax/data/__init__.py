"""Records of a dataset -> batches.

Files, each importing only from those above it:

  dataset: Datasets by name
  record_index: The small fields of every record
  feature_index: The features of every record
  records: What training knows of the materials of a dataset
  free_targets: What records say of themselves for nothing
  joined_records: Records of several datasets as one
  withheld: Materials that a run must not see
  unlabelled: What pretraining learns from
  batches: Records -> per-host batches
"""
