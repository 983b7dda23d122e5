"""The static part of a step; `create_task` builds it from a config."""

import dataclasses

import flax.linen as nn
import optax

from densityjax.model.field import FieldTransform
from densityjax.model.lattice_features import LatticeFeatures
from densityjax.model.losses import LossConfig
from densityjax.model.objectives import Objectives
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
    objectives: Objectives | None = None  # learned beside the targets, or alone

    @property
    def columns(self) -> tuple[TargetSpec, ...]:
        """All that has a loss: the targets, then the objectives."""
        return self.specs if self.objectives is None else (*self.specs, *self.objectives.specs)
