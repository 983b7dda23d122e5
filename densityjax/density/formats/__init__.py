"""File formats, one a file: text, table row or JSON in, `Density` out."""
