"""One training step over the devices: task, optimiser, state, and its mapping."""
