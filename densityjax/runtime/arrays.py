"""Named arrays and texts in one file, .npz or .safetensors: nothing in it runs when it is read."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from densityjax.runtime.files import replaced

SAFETENSORS = ".safetensors"


def save_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]
) -> None:
    """Replaces the file in one step: NumPy's archive, compressed, or safetensors, by its name.

    Args:
        arrays: of numbers.
        texts: names that no array has.
    """
    with replaced(path) as partial:
        if path.suffix == SAFETENSORS:
            whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
            partial.write_bytes(safetensors.numpy.save(whole, dict(texts)))
            return
        with partial.open("wb") as file:
            np.savez_compressed(file, **{k: np.array(v) for k, v in texts.items()}, **arrays)


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads what `save_arrays` wrote: (arrays, texts).

    Raises:
        ValueError: the file is damaged (of an archive, others too, see `RunDirectory.load`).
    """
    if path.suffix == SAFETENSORS:
        try:
            with safetensors.safe_open(path, "numpy") as file:
                names, texts = list(file.keys()), file.metadata() or {}
                return {name: file.get_tensor(name) for name in names}, texts
        except safetensors.SafetensorError as error:
            raise ValueError(str(error)) from error
    with np.load(path, allow_pickle=False) as content:
        found = {name: content[name] for name in content.files}
    texts = {name: str(value) for name, value in found.items() if value.dtype.kind == "U"}
    return {name: value for name, value in found.items() if name not in texts}, texts
