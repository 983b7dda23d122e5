"""A file of any format -> `Density` (e/Å³) -> record."""
