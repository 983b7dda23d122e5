"""The static part of a step; `create_task` builds it from a config."""

import dataclasses

import flax.linen as nn
import optax

from densityjax.model.field import FieldTransform
from densityjax.model.lattice_features import LatticeFeatures
from densityjax.model.losses import LossConfig
from densityjax.model.views import ViewConfig
from densityjax.targets import TargetSpec


@dataclasses.dataclass(frozen=True)
class Task:
    """A hashable description of model, view, loss and optimiser."""

    model: nn.Module
    specs: tuple[TargetSpec, ...]
    view: ViewConfig
    loss: LossConfig
    tx: optax.GradientTransformation
    field_transform: FieldTransform
    log_clamp: float
    lattice_features: LatticeFeatures
    ema_decay: float
    constraints: tuple[str, ...] = ()  # see densityjax.constraints
