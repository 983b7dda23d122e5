"""Labels -> groups of similar targets, written as a config."""
