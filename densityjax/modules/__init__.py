"""Modules of properties, composed for a property that nobody trained on (after arXiv 2502.15483).

Files, each importing only from those above it:

  average: Trunks averaged parameter by parameter.
  weights: How much of each module a new target wants: weights on the simplex, and how
      sure they are.
  proxies: What an embedding knows of a target: predictions of rows whose chemical system is
      left out.
  embedding: What modules see of materials: the pooled trunk of every one.
  composition: Which modules a new target wants, from its labels: proxies -> weights, or why
      there are none.
  hub: A hub is a folder of modules
  start_folder: A composed trunk as a folder that config.init takes.
  output: What a composition leaves for people
  train: One module per target
  compose: A run of a new target that starts from a composition of the modules of a hub.
  __main__: The door
"""
