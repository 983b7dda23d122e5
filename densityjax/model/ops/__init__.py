"""The kernels that decide the speed of a step.

Files, each importing only from those above it:

  activation: Activations in a form that XLA vectorises on CPU.
  onednn: XLA's oneDNN convolution on CPU, called by its name in XLA's runtime.
  reduction: Sums over the voxels of a field, in a form that XLA vectorises on CPU.
  conv3d: 3D convolution in the formulation that is fastest on each backend.
"""
