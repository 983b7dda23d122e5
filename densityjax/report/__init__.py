"""A run's directory -> one HTML page."""
