"""The system of arXiv 2605.07227: an autoencoder of densities, and networks on its latents."""
