"""Densities and labels of the Materials Project: manifest, download, builder and card."""
