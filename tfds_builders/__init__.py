"""The project's TensorFlow Datasets builders, found by name. None of them needs TensorFlow."""

import difflib
import hashlib
import importlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfds_builders.errors import DatasetSourceError, UnknownDatasetError

if TYPE_CHECKING:
    from tfds_builders.density_builder import DensityBuilder

# What a builder may be given, and what stands for nothing given.
_DEFAULTS = {
    "archive": None, "source": "", "split": "auto", "strict": False, "workers": 0,
    "labels": "required",
}


def load_builder(
    name_and_config: str, data_dir: str | Path, archive: str | Path | None = None, *,
    source: str | Path = "", split: str = "auto", strict: bool = False, workers: int = 0,
    labels: str = "required",
) -> "DensityBuilder":
    """Makes the builder of a dataset, built or not.

    Args:
        name_and_config: 'elastic_densities/grid32'; 'elastic_densities/grid32:1.0.0' is an older
            version.
        data_dir: where datasets lie or will be built, as data_dir/NAME/CONFIG/VERSION.
        archive: elastic_densities is built from this archive instead of the one that ships with it.
        source: folder that density_folder, materials_project or lemat_rho is built from.
        split, strict, workers, labels: of density_folder, see its builder.

    Returns:
        A builder whose `download_and_prepare()` builds what is missing and whose
        `as_data_source(split)` reads it.

    Raises:
        UnknownDatasetError: no such dataset, config or version; names those that there are.
        DatasetSourceError: the dataset takes no such option, or its folder cannot be read.
    """
    name, _, config = name_and_config.partition("/")
    config, _, version = config.partition(":")
    builder = find_builder(name)
    configs = [known.name for known in builder.BUILDER_CONFIGS]
    # A dataset with targets of its own is named after the content of its folder, too.
    digest = "(-[0-9a-f]{12})?" if builder.OWN_TARGETS else ""
    if not re.fullmatch(f"({'|'.join(configs)}){digest}", config):
        raise UnknownDatasetError(
            f"dataset '{name}' has no config '{config}'{_hint(config, configs)}"
        )
    if version not in ("", str(builder.VERSION), *builder.OLDER_VERSIONS):
        known = ", ".join([str(builder.VERSION), *builder.OLDER_VERSIONS])
        raise UnknownDatasetError(f"dataset '{name}' has no version '{version}'; known: {known}")
    options = {
        "archive": archive, "source": source, "split": split, "strict": strict, "workers": workers,
        "labels": labels,
    }
    given = {key: value for key, value in options.items() if value != _DEFAULTS[key]}
    for option, value in given.items():
        if option not in builder.OPTIONS:
            raise DatasetSourceError(
                f"dataset '{name}' takes no {option} ('{value}'): leave --{option} and "
                f"config.data.{option} out; it takes {', '.join(builder.OPTIONS) or 'none'}"
            )
    if version in builder.OLDER_VERSIONS:
        given["version"] = version
    return builder(config=config, data_dir=data_dir, **given)


def find_builder(name: str) -> "type[DensityBuilder]":
    """The class of builders of a dataset, 'elastic_densities'.

    Raises:
        UnknownDatasetError: no such dataset; names those that there are.
    """
    known = {path.parent.name: path.stem for path in Path(__file__).parent.glob("*/*_builder.py")}
    name = name.partition("/")[0]
    if name not in known:
        raise UnknownDatasetError(f"unknown dataset '{name}'{_hint(name, sorted(known))}")
    return importlib.import_module(f"tfds_builders.{name}.{known[name]}").Builder


def fingerprint(builder: Any) -> str:
    """Says which data a built dataset holds: name, config, version, archive and features.

    A folder that was copied has other file times, hence another config, and the same fingerprint.

    Raises:
        DatasetSourceError: the dataset has not been built.
    """
    name = f"{builder.name}/{builder.builder_config.name}:{builder.version}"
    if not builder.is_prepared():
        raise DatasetSourceError(
            f"dataset {name} is not in {builder.data_dir_root}; build it with python -m "
            f"tfds_builders {name.partition(':')[0]} --data_dir={builder.data_dir_root}"
        )
    features = json.dumps(builder.info.features.to_json(), sort_keys=True)
    features_hash = hashlib.sha256(features.encode()).hexdigest()
    archive_hash = builder.info.metadata["archive_sha256"]
    grid = builder.builder_config.name.partition("-")[0]  # grid32-DIGEST of a folder
    name = f"{builder.name}/{grid}:{builder.version}"
    return f"{name} archive {archive_hash[:16]} features {features_hash[:16]}"


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f": did you mean {', '.join(close)}?" if close else f"; known: {', '.join(known)}"
