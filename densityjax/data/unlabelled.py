"""What pretraining learns from: training folds and further datasets, without withheld materials."""

import dataclasses
import hashlib
import logging
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from densityjax.config import NO_FOLD
from densityjax.data.dataset import DatasetError, fingerprint, open_source
from densityjax.data.joined_records import join_records, taken
from densityjax.data.record_index import read_index
from densityjax.data.records import Records, load_records
from densityjax.data.withheld import (
    Materials,
    Withheld,
    as_withheld,
    like,
    read_withheld,
    unknown_names,
)
from densityjax.runtime.errors import ConfigError

log = logging.getLogger("densityjax")
_MOST_NAMES = 5  # of unknown ids in a message


def with_sources(
    config: ConfigDict, builder: Any, own: Records, **load: Any
) -> tuple[Records, dict[str, Any]]:
    """The records that a pretraining run learns from; labels are not read.

    Materials that config.pretraining.exclude names are in none of them. Of the datasets of
    config.pretraining.sources all folds are taken, but for what is like the validation and test
    rows of config.data, or like an excluded material, as far as config.pretraining.withhold says,
    and for materials with config.data.held_out_elements. A record that several of them have comes
    once.

    Args:
        builder: of config.data.
        own: records of its training folds.
        **load: further arguments of `load_records`, such as `features`, that `own` was loaded with.

    Returns:
        (records, cached if `own` is; for run.json: how many of each dataset, how many withheld, and
        the names of config.pretraining.exclude that are in none of the datasets). Without sources
        and excluded materials, `own` and {}.

    Raises:
        ConfigError: the file of excluded materials cannot be read; a source has another grid.
        DatasetError, DatasetSourceError: a source is not there, damaged, or nothing of it is left.
    """
    settings = config.pretraining
    if not (settings.sources or settings.exclude):
        return own, {}
    names = read_withheld(settings.exclude) if settings.exclude else ()
    whole = {fold: _materials(builder, fold) for fold in builder.info.splits}
    sources = [_load_source(config, entry, own.grid, load) for entry in settings.sources]
    everything = [*whole.values(), *(records for _, records in sources)]
    excluded = as_withheld(names).reaching(everything, settings.withhold)
    kept = taken(own, np.flatnonzero(~excluded.holds(own)))
    report = {config.data.name: _counts(own, kept)}
    _refuse_none(kept, "the training folds of config.data")
    withheld = excluded | _held_out(config, whole)
    parts, seen = [kept], set(_keys(kept))
    for entry, (_, records) in zip(settings.sources, sources, strict=True):
        part = taken(records, np.flatnonzero(~withheld.holds(records)))
        _refuse_none(part, f"config.pretraining.sources '{entry}'")
        keys = _keys(part)
        new = [row for row, key in enumerate(keys) if key not in seen]
        seen.update(keys)
        report[entry] = _counts(records, part) | {"again": len(part) - len(new)}
        if new:
            parts.append(_cached(taken(part, np.array(new)), own.densities is not None))
    found = {
        "datasets": report, "withhold": settings.withhold, "excluded_names": len(names),
        "unknown_names": list(unknown_names(names, everything)),
        "fingerprints": [identity for identity, _ in sources], "digest": _digest(names, sources),
    }
    return join_records(parts), found


def say(report: Mapping[str, Any]) -> None:
    """Logs what `with_sources` reports."""
    for name, counts in report.get("datasets", {}).items():
        words = [f"{count} {what}" for what, count in counts.items() if count]
        log.info("learning from %s: %s", name, ", ".join(words))
    unknown = report.get("unknown_names", [])
    if unknown:
        log.warning(
            "config.pretraining.exclude: %d of %d names are in none of the datasets: %s%s",
            len(unknown), report["excluded_names"], ", ".join(unknown[:_MOST_NAMES]),
            ", ..." * (len(unknown) > _MOST_NAMES),
        )


def _digest(names: Sequence[str], sources: Sequence[tuple[str, Records]]) -> str:
    """Changes with the excluded names and with what the sources hold."""
    texts = [*names, "", *(identity for identity, _ in sources)]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _materials(builder: Any, split: str) -> Materials:
    """Names of all materials of a split."""
    columns = read_index(builder, split, fingerprint(builder))
    names = ("material_id", "formula", "chemical_system")
    return SimpleNamespace(**{name: columns[name] for name in names})


def _held_out(config: ConfigDict, whole: dict[str, Materials]) -> Withheld:
    """What is like the validation and test rows of config.data."""
    data = config.data
    folds = {data.validation_fold, data.test_fold} - {NO_FOLD}
    found = Withheld()
    for name in (f"fold{fold}" for fold in sorted(folds)):
        if name in whole:
            found |= like(whole[name], slice(None), config.pretraining.withhold)
    return found


def _load_source(
    config: ConfigDict, entry: str, grid: int, load: dict[str, Any]
) -> tuple[str, Records]:
    """(Fingerprint, records of all folds of a source, none of them cached)."""
    builder = open_source(entry, config.data)
    records = load_records(
        builder, list(builder.info.splits), (), channels=config.input.channels,
        spin_polarized_only=config.data.spin_polarized_only, cache_in_memory=False,
        without_elements=tuple(config.data.held_out_elements), core=config.input.core, **load,
    )
    if records.grid != grid:
        raise ConfigError(
            f"config.pretraining.sources '{entry}' has densities of {records.grid} points along an "
            f"axis, config.data.name='{config.data.name}' of {grid}: name datasets of one grid"
        )
    return fingerprint(builder), records


def _keys(records: Records) -> list[tuple[Any, ...]]:
    """What tells records apart, whatever the name and fingerprint of their dataset.

    A folder of densities has another fingerprint with its labels than without them. The same
    material as another calculation has it has another cell or other electrons.
    """
    return [
        (str(name), species.tobytes(), lattice.tobytes(), float(electrons))
        for name, species, lattice, electrons in zip(
            records.material_id, records.species, records.lattice, records.num_electrons
        )
    ]


def _refuse_none(records: Records, where: str) -> None:
    if not len(records):
        raise DatasetError(
            f"{where}: every record is withheld by config.pretraining.exclude or "
            "config.pretraining.withhold: take the dataset out, or withhold less"
        )


def _cached(records: Records, cache: bool) -> Records:
    if not cache:
        return records
    densities = tuple(records.density(row) for row in range(len(records)))
    return dataclasses.replace(records, densities=densities)


def _counts(before: Records, kept: Records) -> dict[str, int]:
    return {"records": len(kept), "withheld": len(before) - len(kept)}
