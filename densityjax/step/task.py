"""From a config to the static description that steps are built from."""

from ml_collections import ConfigDict

from densityjax.model.create import create_model
from densityjax.model.losses import LossConfig
from densityjax.model.views import ViewConfig
from densityjax.step.optimizer import create_optimizer
from densityjax.step.steps import Task
from densityjax.targets import TargetSpec


def _choice(value: str, key: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"config.{key}='{value}' is not one of {', '.join(known)}")
    return value


def create_task(config: ConfigDict, specs: tuple[TargetSpec, ...], num_steps: int) -> Task:
    """Builds the task of a run.

    Args:
        num_steps: updates of the whole run, which the schedule spans.

    Raises:
        ValueError: a setting has a value that is not known; names the key.
    """
    view, loss = config.view, config.loss
    kind = _choice(view.kind, "view.kind", ("fractional", "cartesian"))
    padding = "circular" if kind == "fractional" else view.padding
    if kind == "cartesian":
        _choice(padding, "view.padding", ("zero", "valid"))
    unknown = set(loss.target_weights) - {spec.name for spec in specs}
    if unknown:
        raise ValueError(f"config.loss.target_weights names {sorted(unknown)}, not in the targets")
    positive = ("train.epochs", "train.evaluate_every_epochs", "train.log_every_steps",
                "train.num_threads", "view.validation_views", "view.evaluation_views",
                "view.size", "view.spacing", "model.stem_stride", "model.head_width",
                "input.log_clamp", "optimizer.clip_norm", "loss.huber_delta")
    for key in positive:
        section, name = key.split(".")
        if config[section][name] <= 0:
            raise ValueError(f"config.{key} must be positive, got {config[section][name]}")
    if config.input.channels not in (1, 2):
        raise ValueError("config.input.channels is 1 (charge) or 2 (charge and magnetisation)")
    if not 0 <= config.model.dropout < 1 or not 0 <= config.train.ema_decay < 1:
        raise ValueError("config.model.dropout and config.train.ema_decay are from 0 to under 1")
    if not config.model.dilations or min(config.model.dilations) < 1:
        raise ValueError("config.model.dilations names at least one distance of 1 voxel or more")
    if min(loss.target_weights.values(), default=1.0) <= 0:
        raise ValueError("config.loss.target_weights must be positive: leave a target out instead")
    if min(config.model.widths) < len(config.model.dilations):
        raise ValueError(
            "config.model.widths must be at least the number of config.model.dilations"
        )
    if not set(config.model.attention) <= {"channel", "spatial"}:
        raise ValueError("config.model.attention may hold 'channel' and 'spatial'")
    implementations = ("auto", "lax", "folded", "onednn")
    _choice(config.model.implementation, "model.implementation", implementations)
    return Task(
        model=create_model(config.model, specs, padding),
        specs=specs,
        view=ViewConfig(
            kind=kind,
            size=view.size,
            spacing=view.spacing,
            roll=view.roll,
            cube_operations=view.cube_operations,
            rotate=view.rotate,
            flip_spin=view.flip_spin,
        ),
        loss=LossConfig(
            regression=_choice(loss.regression, "loss.regression", ("mse", "huber")),
            huber_delta=loss.huber_delta,
            weights=tuple(float(loss.target_weights.get(spec.name, 1.0)) for spec in specs),
            weighting=_choice(loss.weighting, "loss.weighting", ("fixed", "uncertainty")),
        ),
        tx=create_optimizer(config.optimizer, num_steps),
        field_transform=_choice(
            config.input.transform,
            "input.transform",
            ("linear", "times_volume", "log", "log_and_linear"),
        ),
        log_clamp=config.input.log_clamp,
        lattice_features=_choice(
            config.input.lattice_features,
            "input.lattice_features",
            ("none", "volume_per_electron", "metric"),
        ),
        ema_decay=config.train.ema_decay,
    )


def field_size(config: ConfigDict, stored_grid: int) -> int:
    """Voxels along an edge of the field that enters the model.

    Raises:
        ValueError: a periodic field does not divide by the strides, which would break periodicity.
    """
    if config.view.kind == "cartesian":
        return config.view.size
    stride = config.model.stem_stride * 2 ** (len(config.model.widths) - 1)
    if stored_grid % stride:
        raise ValueError(
            f"the stored grid of {stored_grid} does not divide by the strides of config.model "
            f"({stride}): choose another config.data.name, or fewer stages"
        )
    return stored_grid
