"""A run's directory -> one HTML page.

Files, each importing only from those above it:

  run_files: What a report needs of a run's directory, checked as it is read.
  style: Colours and settings of every figure.
  text: Numbers and names as a person reads them, and as file names.
  tables: The numbers of a page as rows and cells, and as CSV files at full precision.
  figures: The figures of a page: each a PNG file and the same as a data URI.
  intervals: How intervals kept their promise on the test fold
  maps: The maps of a run, where `densityjax explain --report` has left them.
  page: One self-contained HTML page about a finished run, made only from the files the run
      left.
  __main__: Writes a run's page
"""
