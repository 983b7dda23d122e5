"""Machines, processes and files: what every stage stands on. Knows no density.

Files, each importing only from those above it:

  commit: Which commit of densityjax runs
  compile_cache: Compiled programs kept on disk between runs, by JAX's persistent
      compilation cache.
  csv_cells: Cells of CSV tables that people open in a spreadsheet
  errors: The one base of what a user can mend; anything else is a fault of the program.
  files: Files that are whole or not there
  arrays: Named arrays and texts in one file
  claim: A run directory belongs to one process at a time.
  config_files: Finds config files
  distributed: Several processes as one run
  environment: What this process runs in
  stack_room: Room on Python's stack, so that no loop pays for its place on it.
  command_line: Command lines
  preemption: Word that this machine is about to be taken away, and the status that a run
      ends with then.
"""
