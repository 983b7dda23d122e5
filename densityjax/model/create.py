"""Models: a trunk over the density grid, heads per target, built from static configuration."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from densityjax.model.autoencoder import Autoencoder, AutoencoderDecoder
from densityjax.model.decoder import Decoder
from densityjax.model.msa3dcnn import MSA3DCNN
from densityjax.targets import TargetSpec

MODELS = {"msa3dcnn": MSA3DCNN, "autoencoder": Autoencoder}
# What pretraining puts on the last scale of a model, where it is not `Decoder`.
DECODERS: dict[str, type[nn.Module]] = {"autoencoder": AutoencoderDecoder}


def create_model(
    config: Mapping[str, Any], specs: tuple[TargetSpec, ...], padding: str,
    derived: tuple[str, ...] = (),
) -> nn.Module:
    """Builds the model that `config.model` describes.

    Args:
        config: the section `model` as `densityjax.config.check` accepts it: `name`, `dtype`,
          `constraints`, which the step imposes, and the model's own fields.
        specs: targets, in the order of the heads.
        padding: of the convolutions, decided by the view.
        derived: targets that are computed from others and have no head.
    """
    fields = dict(config)
    name, dtype = fields.pop("name"), fields.pop("dtype")
    fields.pop("constraints")
    fields = {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in fields.items()}
    return MODELS[name](
        targets=tuple((spec.name, spec.num_outputs) for spec in specs),
        derived=derived,
        padding=padding,
        dtype=jnp.dtype(dtype),
        **fields,
    )


def create_decoder(
    config: Mapping[str, Any], model: nn.Module, channels: int, components: int, width: int
) -> nn.Module:
    """Builds the decoder of a model that pretraining needs.

    A model that can be pretrained sows its last scale [B, g, g, g, W] as 'last_scale' and has a
    `total_stride` and a `padding`; its decoder has the fields and the call of `Decoder`.

    Args:
        config: the section `model`.
        model: made from it.
        channels, components: numbers per voxel and per view that are predicted.
        width: hidden, config.pretraining.decoder_width.
    """
    return DECODERS.get(config["name"], Decoder)(
        channels=channels, components=components, stride=model.total_stride, width=width,
        padding=model.padding, implementation=model.implementation, dtype=model.dtype,
    )


def head_modules(target: str) -> tuple[str, str]:
    """Modules of a target's head, the first layer and the last; all others are the trunk's."""
    return f"{target}_hidden", f"{target}_out"
