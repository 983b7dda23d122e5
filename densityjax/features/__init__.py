"""What describes a stored density without learning: invariants of it, and its composition."""
