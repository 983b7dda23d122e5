"""Labels -> groups of similar targets, written as a config.

Files, each importing only from those above it:

  affinity: How training one target moves the loss of another, from one multi-task model.
  columns: Labels of targets, the materials that targets share, and resamples of those
      materials.
  permutation: p-values of no dependence
  similarity: What a comparison of targets gives
  clustering: Groups of targets from a matrix of similarities, and how firmly they stand.
  measures: Measures of dependence between two targets, one function each.
  model_similarity: What models say of the similarity of targets
  series: Similarity from what a training run gave each epoch
  transfer: Similarity by transfer
  label_similarity: How alike targets are by their labels, over the materials that have
      both, and how surely.
  settings: What `config.grouping` says, checked.
  select: Groups of targets from the labels of each test fold's training folds.
  plot: Heat maps of similarities between targets, with the tree that made the groups.
  output: The files of groups
  __main__: Computes groups of targets and writes them.
"""
