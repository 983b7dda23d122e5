"""A trained model and densities -> rows of predictions with intervals, and their tables.

Files, each importing only from those above it:

  materials: Files and densities as materials on the grid of a model.
  reading: Density files read ahead of their prediction
  answers: What trained models say of materials
  rows: Predictions as rows
  frame: Rows of predictions as a table of pandas.
  objects: Densities as people hold them in Python -> `Density`, checked as those of files are.
  model: A trained model as its users have it
  card: The README.md of an exported model
  export: A finished run -> a folder that predicts elsewhere
  tables: Rows of predictions as people and programs read them
  predict_files: Density files -> rows of a table, batch by batch.
"""
