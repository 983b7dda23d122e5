"""densityjax: many properties of a crystal from its electronic charge density."""

from densityjax import xla_flags

# Before anything imports jax: XLA reads its flags once, when the backend starts.
xla_flags.set_defaults()
