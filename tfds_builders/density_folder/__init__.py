"""The density_folder dataset: any folder of densities with a table of labels."""
