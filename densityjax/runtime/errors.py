"""The one base of what a user can mend; anything else is a fault of the program."""


class UserError(Exception):
    """Something that the user gave cannot be used: its text names what, where and the remedy.

    Doors show the text in one line and no traceback (`command_line.run`). A ValueError or TypeError
    of NumPy or JAX is not one, and keeps its traceback.
    """


class ConfigError(UserError):
    """A setting of the config has a value that it cannot have, or settings do not fit together."""
