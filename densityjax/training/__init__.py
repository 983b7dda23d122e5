"""The run: preparation, loop, checkpoints, evaluation; one trunk, or several.

Files, each importing only from those above it:

  checkpoint: Best and latest training states on disk, verified when they are read.
  errors: The error of a run as a whole; a checkpoint's own is in `checkpoint`.
  facts: What run.json says of a run
  groups: Which targets share a trunk
  metric_log: The scalars of a run, step by step: metrics.jsonl and TensorBoard.
  position: Where a run stands after a batch
  progress: How far a run is, for the person who waits.
  compatibility: Which settings may differ between the parts of a run, and between its
      processes.
  compile_ahead: The training step compiled while the data are read
  trained_model: The best states of a finished run, restored to predict with.
  mixture: The learners of a run beside its network, and the mixture of all that answers.
  evaluation_labels: Whether the folds that a run is judged on have labels
  start: Where a run begins instead of at random.
  seen: What a trained model has seen of the materials that a run is judged on
  latents: config.input.encoder
  setup: What a run is made of before its first step
  initial: The model that config.init names, read for a run to start from.
  evaluate: The end of a run
  validation: What the validation fold says of a state
  step_log: What the loop writes to the metric log
  loop: The training loop
  run: A run from its config to its results
  pretraining: Pretraining
  leave_elements_out: Scores of materials with an element that what predicts them was not fitted
      on.
  calibrate: The calibration of a finished run
  joined_run: What joins finished runs, of groups or of members
  grouped_training: Groups of targets
  ensemble_mixture: The mixture of an ensemble
  ensemble: Ensembles
"""
