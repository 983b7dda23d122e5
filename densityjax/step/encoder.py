"""A trained encoder, frozen: densities on one grid -> latents; one file that nothing runs in."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from densityjax.model.autoencoder import Autoencoder
from densityjax.model.field import standardised_field
from densityjax.model.objectives import last_scale
from densityjax.runtime import compile_cache
from densityjax.runtime.arrays import load_arrays, save_arrays

FORMAT = "1"
VOXELS_AT_ONCE = 8 * 48**3  # of stored densities: the first convolution has 16 numbers for each


@dataclasses.dataclass(frozen=True, eq=False)
class Encoder:
    """The encoder of a trained autoencoder, and what it takes to use it elsewhere.

    Attributes:
        arrays: parameters under 'params/...', field_mean and field_std [C].
        settings: JSON-safe: grid, channels and core of the densities that it reads; transform and
          log_clamp; model, the fields of `Autoencoder`.
        facts: where it comes from, JSON-safe; `dataset` names the folds that it was fitted on.
    """

    arrays: Mapping[str, np.ndarray]
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]

    @functools.cached_property
    def model(self) -> Autoencoder:
        """The module of the parameters."""
        fields = {k: tuple(v) if isinstance(v, list) else v
                  for k, v in self.settings["model"].items()}
        return Autoencoder(targets=(), padding="circular", **fields)

    @property
    def grid(self) -> int:
        """Voxels along each axis of the densities that it reads."""
        return self.settings["grid"]

    @property
    def channels(self) -> int:
        """Numbers per voxel of a latent."""
        return self.model.latent

    @property
    def stride(self) -> int:
        """Voxels of a density along an edge of a voxel of its latent."""
        return self.model.total_stride

    @functools.cached_property
    def sha256(self) -> str:
        """Of parameters, scalers and settings: equal encoders make equal latents."""
        found = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode())
        for name in sorted(self.arrays):
            value = np.ascontiguousarray(self.arrays[name])
            found.update(f"{name} {value.dtype} {value.shape} ".encode())
            found.update(value.tobytes())
        return found.hexdigest()

    def encode(self, densities: Sequence[np.ndarray], volumes: Sequence[float]) -> np.ndarray:
        """Latents [n, g, g, g, L] float32 of densities on its grid.

        A latent voxel is one of the stored origin's: rolling the density by `stride` voxels rolls
        the latent by one.

        Args:
            densities: n arrays [G, G, G, C] e/Å^3 (and μB/Å^3), with its channels; they may be
              read as they come.
            volumes: [n] Å^3 of the cells.
        """
        edge = self.grid // self.stride
        found = [np.zeros((0, edge, edge, edge, self.channels), np.float32)]
        parameters = self._parameters
        for rows in _chunks(len(densities), max(1, VOXELS_AT_ONCE // self.grid**3)):
            fields = np.stack([densities[row] for row in rows])  # [B, G, G, G, C]
            sizes = np.asarray([volumes[row] for row in rows], np.float32)
            with compile_cache.unwritten():
                found.append(np.asarray(encode(
                    parameters, fields, sizes, model=self.model,
                    transform=self.settings["transform"], log_clamp=self.settings["log_clamp"],
                )))
        return np.concatenate(found)

    @functools.cached_property
    def _parameters(self) -> dict[str, Any]:
        return jax.tree.map(jnp.asarray, unflatten_dict(dict(self.arrays), sep="/"))

    def save(self, path: Path) -> None:
        """Replaces a safetensors file in one step."""
        save_arrays(path, self.arrays, {
            "format": FORMAT, "sha256": self.sha256,
            "settings": json.dumps(self.settings), "facts": json.dumps(self.facts),
        })

    @classmethod
    def load(cls, path: Path) -> "Encoder":
        """Reads what `save` wrote.

        Raises:
            ValueError, KeyError: the file is damaged, or of another format.
        """
        arrays, texts = load_arrays(path)
        if texts["format"] != FORMAT:
            raise ValueError(f"format {texts['format']}, not {FORMAT}")
        found = cls(arrays, json.loads(texts["settings"]), json.loads(texts["facts"]))
        if found.sha256 != texts["sha256"]:
            raise ValueError("its content is not what its hash says")
        return found


def make_encoder(
    parameters: Mapping[str, Any], field_mean: np.ndarray, field_std: np.ndarray,
    settings: Mapping[str, Any], facts: Mapping[str, Any],
) -> Encoder:
    """An encoder from the parameters of `Autoencoder` and the scalers of its run."""
    arrays = {
        f"params/{name}": np.asarray(value, np.float32)
        for name, value in flatten_dict(dict(parameters), sep="/").items()
    }
    arrays |= {
        "field_mean": np.asarray(field_mean, np.float32),
        "field_std": np.asarray(field_std, np.float32),
    }
    return Encoder(arrays, dict(settings), dict(facts))


@functools.partial(jax.jit, static_argnames=("model", "transform", "log_clamp"))
def encode(
    parameters: Mapping[str, Any], density: jax.Array, volume: jax.Array, *, model: Autoencoder,
    transform: str, log_clamp: float,
) -> jax.Array:
    """Latents [B, g, g, g, L] of densities [B, G, G, G, C] in cells of [B] Å^3.

    Args:
        parameters: params, field_mean and field_std [C].
    """
    field = standardised_field(density, volume, transform, log_clamp, parameters)
    return last_scale(model, parameters["params"], field, jnp.zeros((field.shape[0], 0)))


def _chunks(count: int, size: int) -> Iterator[range]:
    return (range(start, min(start + size, count)) for start in range(0, count, size))
