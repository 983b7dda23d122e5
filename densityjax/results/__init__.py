"""What a run leaves, and what is measured on it."""
