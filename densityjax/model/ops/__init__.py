"""The kernels that decide the speed of a step."""
