"""A file of any format -> `Density` (e/Å³) -> record.

Files, each importing only from those above it:

  density: What every reader returns
  geometry: Whether lengths can be those of matter
  grid: Periodic grids: resampling, and what it leaves behind.
  names: What a file's name or title says that it holds, when that is not the whole density.
  valence: How many valence electrons atoms bring along, by the pseudopotentials that are in
      use.
  plausibility: Reasons to look at a density more closely
  reader: Density files in, `Density` out: the only reader of densities.
  record: Density -> record
  core: The density that models see
"""
