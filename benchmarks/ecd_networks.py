"""Attention CNNs of benchmarks/ecd.py on latents, with and without composition."""

import dataclasses
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from benchmarks.ecd_data import FOLDS, Materials
from benchmarks.ecd_protocol import Protocol
from benchmarks.short_fits import said_by_best
from densityjax.data.joined_records import taken
from densityjax.data.records import Records
from densityjax.results.predictions import predict_records
from densityjax.step import parallel
from densityjax.targets import get_specs
from densityjax.training.setup import FittedInputs, fit_inputs

INPUTS = {"latent": 0, "latent and composition": 96}  # components of the composition
# Updates of 16, about 28 epochs: as many for every part, which then share a program.
STEPS, EVALUATIONS = 1200, 8


def predict(
    materials: Materials, protocol: Protocol, name: str, number: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Predictions of one part by a network that was trained on three others.

    The part after it chooses the best of eight states.

    Args:
        name: of `INPUTS`.
        number: of the part.

    Returns:
        (rows of the part, {target: predictions of them}).
    """
    part, encoder = protocol.part(materials), protocol.encoders(materials)
    labels = protocol.labels(materials)
    choice = (number + 1) % len(FOLDS)
    rows, said = [], []
    for source in np.unique(encoder[part == number]):
        records = dataclasses.replace(materials.encoded[source], labels=labels)
        judged = np.flatnonzero((part == number) & (encoder == source))
        train = np.flatnonzero((part != number) & (part != choice))
        rows.append(judged)
        said.append(_fit(
            _config(materials.config, name), records, train, np.flatnonzero(part == choice),
            judged, protocol.leaky_fit_on_all_rows,
        ))
    return np.concatenate(rows), {
        spec.name: np.concatenate([values[spec.name] for values in said])
        for spec in materials.specs
    }


def _config(config: ConfigDict, name: str) -> ConfigDict:
    config = config.copy_and_resolve_references()
    config.input.composition = INPUTS[name]
    return config


def _fit(
    config: ConfigDict, records: Records, train: np.ndarray, choice: np.ndarray,
    judged: np.ndarray, on_all: bool,
) -> dict[str, np.ndarray]:
    """Predictions {target: [judged]} by the state that the rows of `choice` like best."""
    inputs = _inputs(config, records, train, on_all)
    views = config.view
    quick = parallel.mapped_predict_step(inputs.task, views.validation_views)
    whole = parallel.mapped_predict_step(inputs.task, views.evaluation_views)

    def ask(mapped: Any, state: Any, rows: np.ndarray) -> Any:
        return predict_records(
            mapped, state, inputs.described(taken(records, rows)), inputs.specs,
            inputs.statistics, config.train.batch_size,
        )

    said = said_by_best(
        inputs, STEPS, EVALUATIONS,
        lambda state: ask(quick, state, choice), lambda state: ask(whole, state, judged),
    )
    return {name: np.asarray(values) for name, values in said.values.items()}


def _inputs(
    config: ConfigDict, records: Records, train: np.ndarray, on_all: bool
) -> FittedInputs:
    specs = get_specs(config.targets)
    if not on_all:
        return fit_inputs(config, specs, taken(records, train), STEPS)
    inputs = fit_inputs(config, specs, records, STEPS)
    source = inputs.source
    return dataclasses.replace(inputs, source=dataclasses.replace(
        source, records=taken(source.records, train), labels=source.labels[train],
        mask=source.mask[train],
    ))
