"""densityjax: many properties of a crystal from its electronic charge density."""

import os
from typing import TYPE_CHECKING

from densityjax import xla_flags

if TYPE_CHECKING:
    from densityjax.prediction.model import Model

# Before anything imports jax: XLA reads its flags once, when the backend starts.
xla_flags.set_defaults()


def load(name: "str | os.PathLike") -> "Model":
    """Opens a trained model, of which `predict` is asked:

        model = densityjax.load("elastic")
        model.predict("CHGCAR")     # a pandas DataFrame, see `prediction.model.Model.predict`

    JAX is imported here, not by `import densityjax`. Compiled programs are kept in
    ~/.cache/densityjax, see `runtime.compile_cache`.

    Args:
        name: of a model that ships with the package, the directory of a finished run or of an
            exported model, or 'hf:owner/name@commit' for one of the Hugging Face hub.

    Raises:
        densityjax.runtime.errors.UserError: there is no such model, or a file of it is damaged.
    """
    # Two seconds, which not everything that imports the package is to pay.
    from densityjax.prediction.model import load_model

    return load_model(name)
