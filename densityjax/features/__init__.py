"""What describes a stored density without learning: invariants of it, and its composition.

Files, each importing only from those above it:

  composition: What the elements of a cell tell
  histogram: Histograms that change continuously with the data.
  bonds: What the neighbours of each atom are
  auxiliary: Auxiliary targets
  field: A density as its invariants see it
  harmonics: Real spherical harmonics up to degree 3, as polynomials.
  local: Invariants of the values of the density
  energies: Invariants of derivatives and of the spectrum
  atoms: Invariants of the surroundings of each atom, pooled over the atoms.
  invariants: Density invariants
  valences: Electrons that each element brings to the cells of a dataset.
  identification: Which elements a density is of, told by the density about each atom.
  record_features: All features of a stored record
  standardiser: Features in standard deviations of the training rows.
  reduction: Principal components of a block of features.
  descriptors: What is fitted to the features of training rows
  average_atoms: The average atom of each element, fitted to densities, and its superposition.
  nearest_atoms: Which atom of a crystal is nearest to each voxel of a cell
  voxel_targets: What can be said of every voxel of a stored density without a label
"""
