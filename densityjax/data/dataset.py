"""Datasets by name: opened, built, identified. The only file of the package that knows builders."""

import sys
from typing import Any

from ml_collections import ConfigDict

import tfds_builders
from densityjax.runtime import distributed
from densityjax.runtime.errors import UserError
from densityjax.targets import dataset_targets, get_specs
from tfds_builders import fingerprint
from tfds_builders.errors import UnknownDatasetError

__all__ = [
    "DatasetError", "fingerprint", "open_dataset", "open_from_config", "open_source",
    "resolve_targets",
]


class DatasetError(UserError):
    """The dataset is missing, damaged, or lacks what the config asks for."""


def open_dataset(
    name: str, data_dir: str, build: bool, setting: str = "config.data.name", **options: Any
) -> Any:
    """TFDS builder of a prepared dataset, preparing it first if it is missing and `build` is set.

    Of several processes the first prepares it while the others wait; those that do not find it
    then, on a disk of their own, prepare it, too, one at a time on each machine.

    Args:
        name: 'elastic_densities/grid32'.
        data_dir: folder that holds prepared datasets.
        setting: that names it, for messages.
        **options: `archive`, `source`, `split`, `strict` and `labels` of
          `tfds_builders.load_builder`.

    Raises:
        DatasetError: the name is unknown, or the dataset is not there and `build` is False.
        DatasetSourceError: what it is built from is missing or damaged.
    """
    if not distributed.is_writer():
        distributed.wait_for_work("dataset")
    try:
        builder = tfds_builders.load_builder(name, data_dir, **options)
    except UnknownDatasetError as error:
        raise DatasetError(f"{setting}: {error}") from error
    if not builder.is_prepared():
        if not build:
            raise DatasetError(
                f"dataset '{name}' is not in config.data.data_dir='{data_dir}'; build it with "
                f"'python -m tfds_builders {name} --data_dir={data_dir}' or --config.data.build"
                + (f" (with --source={options['source']})" if options.get("source") else "")
            )
        print(f"Building dataset {name} in {data_dir} (once)", file=sys.stderr, flush=True)
    if not builder.is_prepared() or options.get("source"):
        builder.download_and_prepare()  # of a folder it also says what is wrong with it
    if distributed.is_writer():
        distributed.wait_for_work("dataset")
    return builder


def open_from_config(data: ConfigDict, labels: str = "required") -> Any:
    """`open_dataset` of a config's section `data`.

    Args:
        labels: 'optional' where a folder of densities without labels.csv serves, too.
    """
    options = {} if labels == "required" or not _has_own_targets(data.name) else {"labels": labels}
    return open_dataset(
        data.name, data.data_dir, data.build,
        source=data.source, split=data.split, strict=data.strict, **options,
    )


def open_source(entry: str, data: ConfigDict) -> Any:
    """A dataset whose densities alone are wanted, as a member of config.pretraining.sources says.

    Args:
        entry: 'lemat_rho/grid32', or 'lemat_rho/grid32=/my/shards' with what it is built from. Of a
          folder every density is taken, with and without labels.
        data: section of the config, for the place where datasets lie.
    """
    name, _, source = entry.partition("=")
    setting = "config.pretraining.sources"
    options = {}
    if _has_own_targets(name, setting):
        options = {"labels": "none", "strict": data.strict}
    return open_dataset(name, data.data_dir, data.build, setting, source=source, **options)


def resolve_targets(config: ConfigDict) -> ConfigDict:
    """The config with its targets spelled out: () stands for all that the dataset has.

    Raises:
        DatasetError: the dataset is unknown or not there.
        UserError: a target is unknown.
    """
    # With a source it is opened in any case: a dataset that takes none says so now.
    if config.targets and not (config.data.source or _has_own_targets(config.data.name)):
        get_specs(config.targets)  # mistakes are answered before a dataset is built
        return config
    builder = open_from_config(config.data)
    known = dataset_targets(builder)
    resolved = config.copy_and_resolve_references()
    has = builder.info.features["targets"].keys()
    resolved.targets = tuple(config.targets) or tuple(name for name in known if name in has)
    if not resolved.targets:
        raise DatasetError(
            f"dataset '{config.data.name}' has densities and no labels: densityjax.pretrain learns "
            "from them, training needs a dataset with targets"
        )
    get_specs(resolved.targets, known)
    return resolved


def _has_own_targets(name: str, setting: str = "config.data.name") -> bool:
    """Whether a dataset may have targets that `densityjax.targets` does not list."""
    try:
        return tfds_builders.find_builder(name).OWN_TARGETS
    except UnknownDatasetError as error:
        raise DatasetError(f"{setting}: {error}") from error
