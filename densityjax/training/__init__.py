"""The run: preparation, loop, checkpoints, evaluation; one trunk or one for each group."""
