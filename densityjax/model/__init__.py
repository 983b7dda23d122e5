"""A batch of densities -> outputs, in pure functions: views, layers, the network, the losses.

Files, each importing only from those above it:

  field: The transform of the density before it enters the trunk.
  lattice_features: Invariants of the cell that reach the model beside the pooled trunk.
  layers: Layers of the trunk
  losses: Masked multi-task losses, as sums that are divided once by the global label count.
  fixed_views: Origins and rotations of the evaluation views, computed without a compiler.
  views: What the model sees of a stored density
  msa3dcnn: msa3dcnn
  autoencoder: autoencoder
  corruption: What pretraining does to a view before a network sees it
  decoder: Decoders
  objectives: Objectives
  constraints: Constraints on what the network puts out
  create: Models
"""
