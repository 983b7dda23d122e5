"""What a training config may say: a rule for each key, and a few rules between keys.

`check(config)` is called before a dataset is opened, so that a mistake costs seconds. Nothing here
needs JAX. A folder with settings of its own has its own table, and calls `check_rules`.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from densityjax.config_rules import (
    Rule,
    at_least,
    between_0_and_1,
    boolean,
    each,
    element,
    fraction,
    from_to,
    not_negative,
    one_of,
    positive,
    positive_whole,
    some_text,
    text,
    under_one,
    up_to,
    values_of,
    whole,
)
from densityjax.configs import elastic_paper
from densityjax.constraints import CONSTRAINTS, check_constraints
from densityjax.runtime.errors import ConfigError
from densityjax.targets import get_specs

YARDSTICK_NAMES = ("composition", "invariants", "density", "both", "all")  # of results.yardsticks
NO_FOLD = -1  # as config.data.test_fold
MAX_VIEWS = 1024  # of a material; a stranger's config is not to keep a machine for days
# Of each model, its own fields in the section `model`.
MODEL_RULES: dict[str, dict[str, Rule]] = {
    "msa3dcnn": {
        "model.widths": each(positive_whole, at_least=1),
        "model.blocks": each(whole, at_least=1),
        "model.stem_stride": positive_whole,
        "model.dilations": each(positive_whole, at_least=1),
        "model.attention": each(one_of("channel", "spatial")),
        "model.head_width": positive_whole,
        "model.dropout": under_one,
        "model.adapter": whole,
        "model.implementation": one_of("auto", "lax", "folded", "onednn"),
        "model.remat": boolean,
    },
    "autoencoder": {
        "model.widths": each(positive_whole, at_least=1),
        # Two channels of a density are charge and magnetisation: a latent is not taken for one.
        "model.latent": at_least(3),
        "model.head_width": positive_whole,
        "model.implementation": one_of("auto", "lax", "folded", "onednn"),
    },
}
# Every key of a training config but those of a model and those of the section `grouping`.
RULES: dict[str, Rule] = {
    "seed": whole,
    "targets": each(some_text),
    "groups": some_text,
    "init": text,
    "ensemble.seeds": positive_whole,
    "ensemble.rotate": boolean,
    "ensemble.epochs": positive_whole,
    "data.name": some_text,
    "data.data_dir": some_text,
    "data.build": boolean,
    "data.source": text,
    "data.split": one_of("auto", "fold", "system", "id"),
    "data.strict": boolean,
    "data.train_folds": each(whole, at_least=1),
    "data.train_fraction": fraction,
    "data.validation_fold": whole,
    "data.test_fold": Rule(
        f"a fold, a whole number of 0 or more, or {NO_FOLD}", at_least(NO_FOLD).holds
    ),
    "data.spin_polarized_only": boolean,
    "data.held_out_elements": each(element),
    "data.cache_in_memory": boolean,
    "input.channels": one_of(1, 2),
    "input.core": one_of("all", "charge"),
    "input.encoder": text,
    "input.transform": one_of("linear", "times_volume", "log", "log_and_linear"),
    "input.log_clamp": positive,
    "input.lattice_features": one_of("none", "volume_per_electron", "metric"),
    "input.invariants": whole,
    "input.identified": whole,
    "input.composition": whole,
    "input.structure": whole,
    "yardsticks": each(one_of(*YARDSTICK_NAMES)),
    "stack.learners": each(one_of("network", *YARDSTICK_NAMES)),
    "pretraining.objectives.masked": not_negative,
    "pretraining.objectives.denoising": not_negative,
    "pretraining.objectives.reconstruction": not_negative,
    "pretraining.objectives.nearest_element": not_negative,
    "pretraining.objectives.deformation": not_negative,
    "pretraining.objectives.invariants": not_negative,
    "pretraining.hidden": between_0_and_1,
    "pretraining.block": positive,
    "pretraining.noise": positive,
    "pretraining.components": positive_whole,
    "pretraining.decoder_width": positive_whole,
    "pretraining.sources": each(some_text),
    "pretraining.exclude": text,
    "pretraining.withhold": one_of("system", "formula", "id", "nothing"),
    "intervals.calibrate": boolean,
    "auxiliary.properties": each(some_text),
    "auxiliary.weight": positive,
    "view.kind": one_of("fractional", "cartesian"),
    "view.size": positive_whole,
    "view.spacing": positive,
    "view.padding": one_of("zero", "valid"),
    "view.roll": boolean,
    "view.cube_operations": boolean,
    "view.rotate": boolean,
    "view.flip_spin": boolean,
    "view.validation_views": up_to(MAX_VIEWS),
    "view.evaluation_views": up_to(MAX_VIEWS),
    "model.name": one_of(*MODEL_RULES),
    "model.dtype": one_of("float32", "bfloat16"),
    "model.constraints": each(one_of(*CONSTRAINTS)),
    "loss.regression": one_of("mse", "huber"),
    "loss.huber_delta": positive,
    "loss.target_weights": values_of(positive),
    "loss.weighting": one_of("fixed", "uncertainty"),
    "loss.balance_classes": boolean,
    "optimizer.learning_rate": not_negative,
    "optimizer.trunk_rate": not_negative,
    "optimizer.head_first": under_one,
    "optimizer.warmup_fraction": from_to(0, 1),
    "optimizer.weight_decay": not_negative,
    "optimizer.clip_norm": positive,
    "optimizer.b1": under_one,
    "optimizer.b2": under_one,
    "train.batch_size": positive_whole,
    "train.accumulation_steps": positive_whole,
    "train.epochs": positive_whole,
    "train.evaluate_every_epochs": positive_whole,
    "train.early_stop_evaluations": whole,
    "train.ema_decay": under_one,
    "train.checkpoint_every_steps": whole,
    "train.max_skipped_steps": positive_whole,
    "train.log_every_steps": positive_whole,
    "train.heartbeat_seconds": positive_whole,
    "train.watchdog_seconds": not_negative,
    "train.num_threads": positive_whole,
    "modules.proxy": one_of("best", "neighbours", "kernel_ridge"),
    "modules.resampled": boolean,
    "modules.neighbours": each(positive_whole, at_least=1),
    "modules.temperatures": each(positive, at_least=1),
    "modules.ridges": each(positive, at_least=1),
    "modules.bootstraps": positive_whole,
    "modules.min_labels": positive_whole,
}


def check(config: ConfigDict, num_devices: int | None = None) -> None:
    """Refuses a training config that cannot work, before anything is opened or built.

    Args:
        num_devices: of all processes; None where JAX has not been started yet.

    Raises:
        ConfigError: a value breaks its rule, or values do not fit together; names the keys.
    """
    check_rules(config, RULES)
    check_rules(config, MODEL_RULES[config.model.name])
    _check_targets(config)
    check_target_weights(config)
    _check_folds(config)
    _check_encoder(config)
    if config.model.name == "msa3dcnn":
        _check_stages(config)
    elif config.model.name == "autoencoder":
        _check_autoencoder(config)
    _check_objectives(config)
    if num_devices is not None:
        check_batch_size(config, num_devices)


def completed(recorded: Mapping[str, Any]) -> ConfigDict:
    """A config from a run's config.json; settings that came later have what they had before them.

    The defaults of configs/elastic_paper.py leave out what they add.
    """
    config = elastic_paper.get_config().copy_and_resolve_references()
    with config.unlocked():
        config.yardsticks = ()
        for section, values in recorded.items():
            if isinstance(values, Mapping) and section != "model":  # whose keys are the model's
                config[section].update(values)
            else:
                config[section] = ConfigDict(values) if isinstance(values, Mapping) else values
        config.model.constraints = tuple(config.model.get("constraints", ()))
    return config


def check_rules(
    config: ConfigDict, rules: Mapping[str, Rule], prefix: str = "config."
) -> None:
    """Checks every value by itself.

    Args:
        config: holds a value for every dotted key of `rules`.
        prefix: precedes a key in messages.

    Raises:
        ConfigError: names the key, the value and what it must be.
    """
    for key, rule in rules.items():
        value: Any = config
        for part in key.split("."):
            value = value[part]
        if not rule.holds(value):
            shown = dict(value) if isinstance(value, ConfigDict) else value
            raise ConfigError(f"{prefix}{key}={shown!r}: it must be {rule.text}")


def _may_have_own_targets(data: ConfigDict) -> bool:
    """Whether a dataset may have targets that `targets.TARGETS` lacks: it has to be asked then.

    A folder of densities has; once built it is read without its source.
    """
    return bool(data.source) or data.name.startswith("density_folder/")


def _check_targets(config: ConfigDict) -> None:
    if config.targets and not _may_have_own_targets(config.data):
        get_specs(config.targets)
    if config.targets:
        check_constraints(config.model.constraints, config.targets)


def check_target_weights(config: ConfigDict) -> None:
    """Raises ConfigError for a weight of no target; `targets=()` is checked once resolved."""
    unknown = sorted(set(config.loss.target_weights) - set(config.targets))
    if config.targets and unknown:
        raise ConfigError(
            f"config.loss.target_weights names {', '.join(unknown)}, not in config.targets "
            f"({', '.join(config.targets)}): take the weight out, or add the target"
        )


def _check_folds(config: ConfigDict) -> None:
    data = config.data
    folds = (*data.train_folds, data.validation_fold)
    folds += () if data.test_fold == NO_FOLD else (data.test_fold,)
    if len(set(folds)) != len(folds):
        raise ConfigError(
            f"config.data.train_folds={tuple(data.train_folds)}, "
            f"config.data.validation_fold={data.validation_fold} and "
            f"config.data.test_fold={data.test_fold} use a fold in two roles: name each fold once"
        )


def _check_autoencoder(config: ConfigDict) -> None:
    if config.view.kind != "fractional":
        raise ConfigError(
            f"config.view.kind={config.view.kind!r}: an autoencoder is of the periodic field, set "
            "--config.view.kind=fractional"
        )
    if config.pretraining.objectives.invariants:
        raise ConfigError(
            "config.pretraining.objectives.invariants: the decoder of an autoencoder gives "
            "numbers of voxels alone; set it to 0"
        )


def _check_encoder(config: ConfigDict) -> None:
    """Latents are numbers of their own on a grid of their own: not all can be done to them."""
    fitting = {
        "view.kind": ("fractional", "a latent has the cell's grid, and cannot be sampled in Å"),
        "view.cube_operations": (False, "they turn a density, not what stands in its latent"),
        "input.transform": ("linear", "a latent is no density, and may be negative"),
        "model.name": ("msa3dcnn", "an autoencoder reads densities"),
    }
    if not config.input.encoder:
        return
    for key, (value, reason) in fitting.items():
        section, name = key.split(".")
        if config[section][name] != value:
            raise ConfigError(
                f"config.{key}={config[section][name]!r} does not go with config.input.encoder, "
                f"{reason}: set --config.{key}={value}"
            )
    if any(config.pretraining.objectives.values()):
        raise ConfigError(
            "config.pretraining.objectives are of densities, config.input.encoder gives latents: "
            "learn them with the autoencoder"
        )
    if "even_spin" in config.model.constraints:
        raise ConfigError(
            "config.model.constraints: 'even_spin' changes the sign of a magnetisation, which "
            "latents do not have; leave it out, or config.input.encoder"
        )


def _check_stages(config: ConfigDict) -> None:
    model = config.model
    if len(model.widths) != len(model.blocks):
        raise ConfigError(
            f"config.model.widths has {len(model.widths)} stages and config.model.blocks "
            f"{len(model.blocks)}: give one number of blocks per width"
        )
    if min(model.widths) < len(model.dilations):
        raise ConfigError(
            f"config.model.widths={tuple(model.widths)}: each must be at least "
            f"{len(model.dilations)}, the number of config.model.dilations"
        )


def _check_objectives(config: ConfigDict) -> None:
    view, settings = config.view, config.pretraining
    on = [name for name, weight in settings.objectives.items() if weight]
    if not on:
        return
    corrupting = [name for name in ("masked", "denoising") if name in on]
    if "reconstruction" in on and corrupting:
        raise ConfigError(
            f"config.pretraining.objectives: reconstruction hides nothing, {corrupting[0]} does: "
            "give one of them a weight of 0"
        )
    if view.kind == "cartesian" and view.padding == "valid" and on != ["invariants"]:
        raise ConfigError(
            "config.view.padding='valid' leaves no prediction at the edge of a view, which "
            f"config.pretraining.objectives ({', '.join(on)}) need: take 'zero'"
        )
    if "masked" in on and view.kind != "cartesian":
        raise ConfigError(
            f"config.pretraining.objectives.masked hides blocks of a size in Å, which "
            f"config.view.kind='{view.kind}' does not have: take 'cartesian', or another objective"
        )
    if "masked" in on and 2 * max(round(settings.block / view.spacing), 1) > view.size + 1:
        raise ConfigError(
            f"config.pretraining.block={settings.block} Å is too large for a view of "
            f"{view.size} x {view.spacing} Å: half of that at most, so that something is seen"
        )


def check_batch_size(config: ConfigDict, num_devices: int) -> None:
    """Raises ConfigError if the batch does not divide over the devices and the micro-batches."""
    size, steps = config.train.batch_size, config.train.accumulation_steps
    if size % (num_devices * steps):
        raise ConfigError(
            f"config.train.batch_size={size} does not divide over {num_devices} devices x {steps} "
            f"accumulation steps: make it a multiple of {num_devices * steps}"
        )


def check_grid(config: ConfigDict, stored_grid: int) -> None:
    """Raises ConfigError if a periodic field does not divide by the strides of the model.

    Where it does not, the last voxels of the field would not meet the first, and a prediction would
    depend on the origin of the cell.

    Args:
        stored_grid: voxels along each axis of the dataset's densities, or of their latents.
    """
    if config.view.kind != "fractional":
        return
    stages = len(config.model.widths)
    if config.model.name == "msa3dcnn":
        stride = config.model.stem_stride * 2 ** (stages - 1)
    else:
        stride = 2**stages
    if stored_grid % stride:
        raise ConfigError(
            f"config.data.name='{config.data.name}': its grid of {stored_grid} does not divide by "
            f"the strides of config.model ({stride}): choose a dataset of another grid, or fewer "
            "config.model.widths"
        )
