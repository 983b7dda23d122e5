"""Models: a trunk over the density grid, heads per target, built from static configuration."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from densityjax.model.msa3dcnn import MSA3DCNN
from densityjax.targets import TargetSpec

_MODELS = {"msa3dcnn": MSA3DCNN}


def create_model(
    config: Mapping[str, Any], specs: tuple[TargetSpec, ...], padding: str
) -> nn.Module:
    """Builds the model that `config.model` describes.

    Args:
        config: the section `model`: `name` and the model's own fields.
        specs: targets, in the order of the heads.
        padding: of the convolutions, decided by the view.

    Raises:
        ValueError: the name is unknown, or stages do not match.
    """
    fields = dict(config)
    name, dtype = fields.pop("name"), fields.pop("dtype")
    if name not in _MODELS:
        raise ValueError(f"config.model.name='{name}' is unknown; known: {', '.join(_MODELS)}")
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"config.model.dtype must be 'float32' or 'bfloat16', got '{dtype}'")
    if len(fields["widths"]) != len(fields["blocks"]):
        raise ValueError(
            f"config.model.widths has {len(fields['widths'])} stages and config.model.blocks "
            f"{len(fields['blocks'])}: give one number of blocks per width"
        )
    fields = {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in fields.items()}
    return _MODELS[name](
        targets=tuple((spec.name, spec.num_outputs) for spec in specs),
        padding=padding,
        dtype=jnp.dtype(dtype),
        **fields,
    )
