"""The project's TensorFlow Datasets builders, found by name. None of them needs TensorFlow."""

import difflib
import hashlib
import importlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def load_builder(
    name_and_config: str, data_dir: str | Path, archive: str | Path | None = None, *,
    source: str | Path = "", split: str = "auto", strict: bool = False, workers: int = 0,
) -> "tfds.core.GeneratorBasedBuilder":
    """Makes the builder of a dataset, built or not.

    Args:
        name_and_config: 'elastic_densities/grid32'.
        data_dir: where datasets lie or will be built, as data_dir/NAME/CONFIG/VERSION.
        archive: builds from this archive instead of the one that ships with the builder; of
            materials_project and lemat_rho the same as `source`.
        source: folder that density_folder, materials_project or lemat_rho is built from.
        split, strict, workers: of density_folder, see its builder.

    Returns:
        A builder whose `download_and_prepare()` builds what is missing and whose
        `as_data_source(split)` reads it.

    Raises:
        ValueError: no such dataset or config; names those that there are.
    """
    name, _, config = name_and_config.partition("/")
    known = {path.parent.name: path.stem for path in Path(__file__).parent.glob("*/*_builder.py")}
    if name not in known:
        raise ValueError(f"unknown dataset '{name}'{_hint(name, sorted(known))}")
    module = importlib.import_module(f"tfds_builders.{name}.{known[name]}")
    configs = [config.name for config in module.Builder.BUILDER_CONFIGS]
    takes_source = name == "density_folder"
    pattern = r"({})(-[0-9a-f]{{12}})?" if takes_source else r"({})"
    if not re.fullmatch(pattern.format("|".join(configs)), config):
        raise ValueError(f"dataset '{name}' has no config '{config}'{_hint(config, configs)}")
    if takes_source:
        return module.Builder(
            config=config, data_dir=data_dir, source=source, split=split, strict=strict,
            workers=workers,
        )
    if source and name == "elastic_densities":  # it ships with what it is built from
        raise ValueError(f"'{name}' is not built from a folder: config.data.source must be empty")
    archive = archive or source or None
    return module.Builder(config=config, data_dir=data_dir, archive=archive)


def fingerprint(builder: "tfds.core.GeneratorBasedBuilder") -> str:
    """Says which data a built dataset holds: name, config, version, archive and features.

    A folder that was copied has other file times, hence another config, and the same fingerprint.

    Raises:
        ValueError: the dataset has not been built.
    """
    name = f"{builder.name}/{builder.builder_config.name}:{builder.version}"
    if not builder.is_prepared():
        raise ValueError(
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
