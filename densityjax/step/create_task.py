"""From a config, which `densityjax.config.check` has accepted, to the static part of a step."""

import flax.linen as nn
from ml_collections import ConfigDict

from densityjax.config import check_grid
from densityjax.constraints import check_constraints, derived_targets
from densityjax.features.auxiliary import auxiliary_specs
from densityjax.features.voxel_targets import voxel_width
from densityjax.model.create import create_decoder, create_model, head_modules
from densityjax.model.field import num_fields
from densityjax.model.losses import LossConfig
from densityjax.model.objectives import NAMES, VIEW, Objectives, channels
from densityjax.model.views import ViewConfig
from densityjax.step.optimizer import create_optimizer
from densityjax.step.task import Task
from densityjax.targets import TargetSpec


def create_task(config: ConfigDict, specs: tuple[TargetSpec, ...], num_steps: int) -> Task:
    """Builds the task of a run.

    Args:
        specs: the targets of the run; the config's auxiliary ones are added after them.
        num_steps: updates of the whole run, which the schedule spans.

    Raises:
        ConfigError: as `check_constraints`.
    """
    view, loss = config.view, config.loss
    auxiliary = auxiliary_specs(config.auxiliary.properties)
    weights = [float(loss.target_weights.get(spec.name, 1.0)) for spec in specs]
    weights += [float(config.auxiliary.weight)] * len(auxiliary)
    specs = (*specs, *auxiliary)
    names, constraints = [spec.name for spec in specs], tuple(config.model.constraints)
    check_constraints(constraints, names)
    model = create_model(
        config.model, specs, "circular" if view.kind == "fractional" else view.padding,
        derived_targets(constraints, names),
    )
    weights += [float(config.pretraining.objectives[name]) for name in objective_names(config)]
    return Task(
        model=model,
        specs=specs,
        view=ViewConfig(
            kind=view.kind,
            size=view.size,
            spacing=view.spacing,
            roll=view.roll,
            cube_operations=view.cube_operations,
            rotate=view.rotate,
            flip_spin=view.flip_spin,
        ),
        loss=LossConfig(
            regression=loss.regression,
            huber_delta=loss.huber_delta,
            weights=tuple(weights),
            weighting=loss.weighting,
        ),
        tx=create_optimizer(
            config.optimizer, num_steps, sum((head_modules(spec.name) for spec in specs), ())
        ),
        field_transform=config.input.transform,
        log_clamp=config.input.log_clamp,
        lattice_features=config.input.lattice_features,
        ema_decay=config.train.ema_decay,
        constraints=constraints,
        objectives=_objectives(config, model),
    )


def objective_names(config: ConfigDict) -> tuple[str, ...]:
    """What is learned without labels: the objectives whose weight is not 0."""
    return tuple(name for name in NAMES if config.pretraining.objectives[name])


def reads_atoms(config: ConfigDict) -> bool:
    """Whether an objective needs to know the atoms of a density."""
    return bool(voxel_width(objective_names(config)))


def _objectives(config: ConfigDict, model: nn.Module) -> Objectives | None:
    names, settings = objective_names(config), config.pretraining
    if not names:
        return None
    fields = num_fields(config.input.channels, config.input.transform)
    decoder = create_decoder(
        config.model, model, channels(names, fields),
        settings.components if set(names) & set(VIEW) else 0, settings.decoder_width,
    )
    return Objectives(
        names=names, decoder=decoder, hidden=float(settings.hidden),
        block=max(round(settings.block / config.view.spacing), 1), noise=float(settings.noise),
    )


def field_size(config: ConfigDict, stored_grid: int) -> int:
    """Voxels along an edge of the field that enters the model.

    Args:
        stored_grid: voxels along each axis of the dataset's densities.

    Raises:
        ConfigError: as `check_grid`.
    """
    check_grid(config, stored_grid)
    return stored_grid if config.view.kind == "fractional" else config.view.size
