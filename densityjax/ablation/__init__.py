"""A plan of variants -> runs -> tables of paired differences.

Files, each importing only from those above it:

  bootstrap: A bootstrap over chemical systems, seeds and members of pools; intervals and p
      from it.
  plan: What an ablation consists of
  results: What an ablation is compared by
  checks: The design that cells make
  run: Trains the units of an ablation and joins their runs to cells.
  scores: Scores of predictions in the data and in every replicate of the bootstrap, and
      differences.
  words: How a comparison's names and numbers are written, in every format.
  compare: Scores of an ablation's variants with intervals, and paired differences between
      them.
  forest: A comparison as a forest plot: a panel per contrast, a line per target.
  frame: The numbers of a comparison as one long table, and wide tables of texts made from
      it.
  latex: A comparison as LaTeX tables, by the template table.tex.jinja.
  markdown: A comparison as Markdown, by the template table.md.jinja.
  write: Writes a comparison of variants as Markdown, CSV, LaTeX, JSON and a plot.
  table: From the cells of an ablation to its table
  __main__: Ablations
"""
