"""From a config, which `densityjax.config.check` has accepted, to the static part of a step."""

from ml_collections import ConfigDict

from densityjax.config import check_grid
from densityjax.constraints import check_constraints, derived_targets
from densityjax.features.auxiliary import auxiliary_specs
from densityjax.model.create import create_model
from densityjax.model.losses import LossConfig
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
    return Task(
        model=create_model(
            config.model, specs, "circular" if view.kind == "fractional" else view.padding,
            derived_targets(constraints, names),
        ),
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
        tx=create_optimizer(config.optimizer, num_steps),
        field_transform=config.input.transform,
        log_clamp=config.input.log_clamp,
        lattice_features=config.input.lattice_features,
        ema_decay=config.train.ema_decay,
        constraints=constraints,
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
