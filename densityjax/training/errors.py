"""The error of a run as a whole; a checkpoint's own is in `checkpoint`."""

from densityjax.runtime.errors import UserError


class RunError(UserError):
    """A run cannot start or go on, for a reason that the message names with its remedy."""
