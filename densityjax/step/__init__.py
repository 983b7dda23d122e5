"""One training step over the devices: task, optimiser, state, and its mapping.

Files, each importing only from those above it:

  compiler_options: Options of XLA's CPU compiler that spare its time
  optimizer: Learning-rate schedule and gradient transformation.
  scalers: Everything fitted before training, from training rows alone.
  task: The static part of a step; `create_task` builds it from a config.
  encoder: A trained encoder, frozen
  train_state: What a step reads and writes.
  weights: The averaged parameters of a network in one safetensors file
  create_task: From a config, which `densityjax.config.check` has accepted, to the static
      part of a step.
  objective_steps: Pure steps of what is learned without labels
  steps: Pure train and predict steps on one device's share of a batch.
  parallel: The only place that maps over devices and places arrays on them.
  members: Predictions of several states of one task, which see the same views.
"""
