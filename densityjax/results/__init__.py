"""What a run leaves, and what is measured on it.

Files, each importing only from those above it:

  applicability: What a model was trained on, and in which respects a new density differs
      from it.
  metrics: Accuracy of predictions in physical units, on host arrays, every material counted
      once.
  gaussian_process: Gaussian-process regression on blocks of features, set by leave-one-out on the
      training rows.
  learners: The learners of one target
  yardsticks: What is reached with features and no network
  learner_file: The learners that a model mixes, in one file of arrays and JSON
  identities: What a density file itself gives
  conformal: Conformal prediction when chemical systems are exchangeable and their rows are
      not.
  predictions_table: predictions.csv
  constraints: The last step of every answer
  stack: The best mixture of learners that held-out predictions allow (stacking).
  baselines: What is reached without a network
  predictions: Predictions and accuracy for every example of a split, each exactly once.
  objective_losses: Losses of objectives without labels, for every record of a split.
  averages: Averages of the predictions of several models, and how far these are from each
      other.
  run_directory: The directory of a run
  manifest: The list of a model's files with their hashes
  hub: Models of the Hugging Face hub
  pretrained: Models by name
  forest: Extra-trees as arrays
  interval_scale: Sigma of a prediction
  calibration: What a run needs to say how sure it is
  coverage: Whether intervals keep their promise on materials with labels
  interval_cells: Intervals of materials that are in no dataset, as columns of a table.
"""
