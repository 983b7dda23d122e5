"""A trained model and one density -> where in the cell a prediction comes from.

Files, each importing only from those above it:

  partition: Which voxels belong to which atom.
  smoothing: A map at the resolution that its views have.
  references: Densities that a prediction is compared with.
  network: The network's prediction and its gradient with respect to the stored density.
  question: Which model is asked what about which material
  result: A map, and what its numbers add up to.
  integrated_gradients: Signed integrated gradients, complete with the path through descriptors.
  copies: Everything that answers, asked about changed copies of a density.
  occlusion: What flattening the density somewhere changes.
  shapley: Shares of the atoms in what everything that answers says.
  grad_cam: Grad-CAM of the last scale, carried back to the cell.
  tables: Shares of the atoms, and the facts of a map, as files.
  volumes: A map as a cube and a CHGCAR.
  planes: A picture of three planes of a map.
  stored: Whole records of the folds of a run, atoms included.
  explain: From a question to the files that answer it
  run_maps: Maps of a run's best and worst predictions, for its report.
"""
