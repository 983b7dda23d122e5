"""Machines, processes and files: what every stage stands on. Knows no density."""
