"""A batch of densities -> outputs, in pure functions: views, layers, the network, the losses."""
