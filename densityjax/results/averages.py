"""Averages of the predictions of several models, and how far these are from each other."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from densityjax.results.constraints import project
from densityjax.results.predictions import Predictions
from densityjax.results.predictions_table import TargetPredictions
from densityjax.targets import TargetSpec


def average_rows(
    values: np.ndarray, spread: np.ndarray, place: np.ndarray, between: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Averages those rows that belong together.

    The variance over views and models is the mean of the variances over the views of each model
    plus the variance of the models' averages (the law of total variance); for classes, that of the
    probability of the class that wins on average.

    Args:
        values: [N] in the target's unit, or class probabilities [N, K].
        spread: [N] standard deviation over views.
        place: [N] int, of the average that a row belongs to; each of 0 to n - 1 occurs.
        between: whether the variance of the models' averages counts.

    Returns:
        (averages [n] or [n, K], spread [n]).
    """
    counts = np.bincount(place)  # [n]

    def mean(rows: np.ndarray) -> np.ndarray:
        total = np.zeros((len(counts), *rows.shape[1:]))
        np.add.at(total, place, rows)  # in the order of the rows
        return total / counts.reshape(-1, *[1] * (rows.ndim - 1))

    average, variance = mean(values), mean(np.square(spread))  # [n] or [n, K], [n]
    if between:
        shown, centre = values, average
        if values.ndim == 2:
            winner = average.argmax(1)  # [n]
            shown = np.take_along_axis(values, winner[place][:, None], axis=1)[:, 0]  # [N]
            centre = np.take_along_axis(average, winner[:, None], axis=1)[:, 0]  # [n]
        variance = variance + mean(np.square(shown - centre[place]))
    return average, np.sqrt(variance)


def average_parts(
    values: Sequence[np.ndarray], spread: Sequence[np.ndarray], between: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """`average_rows` of models that each predict the same n materials, in the same order."""
    place = np.tile(np.arange(len(spread[0])), len(spread))
    return average_rows(np.concatenate(values), np.concatenate(spread), place, between)


def network_answer(
    parts: Sequence[Predictions], specs: Sequence[TargetSpec], constraints: Sequence[str]
) -> Predictions:
    """`average_states`, whose values obey config.model.constraints."""
    average = average_states(parts)
    if not constraints:
        return average
    return dataclasses.replace(average, values=project(average.values, specs, constraints))


def average_states(parts: Sequence[Predictions]) -> Predictions:
    """Average over several states of one run, the best first.

    Such states are correlated, so that their differences are no measure of uncertainty
    (arXiv 2211.02235): the spread is that over views alone. The embedding is that of the best.
    """
    if len(parts) == 1:
        return parts[0]
    values, spread, loss = {}, {}, {}
    for name in parts[0].values:
        values[name], spread[name] = average_parts(
            [part.values[name] for part in parts], [part.spread[name] for part in parts],
            between=False,
        )
        if name in parts[0].loss:
            loss[name] = np.mean([part.loss[name] for part in parts], axis=0)  # [n]
    return Predictions(values, spread, loss, parts[0].embedding)


def average_tables(tables: Sequence[TargetPredictions]) -> TargetPredictions:
    """One row per material of any of the tables: the average over those that have it.

    Args:
        tables: of the same target and the same labels; each has a material once at most.
    """
    ids = [name for table in tables for name in table.ids]
    places = {name: row for row, name in enumerate(dict.fromkeys(ids))}
    place = np.array([places[name] for name in ids])  # [N]
    first = np.unique(place, return_index=True)[1]  # [n] row of each material's first prediction
    formulas = [formula for table in tables for formula in table.formulas]
    values, spread = average_rows(
        np.concatenate([table.prediction for table in tables]),
        np.concatenate([table.spread for table in tables]), place,
    )
    return TargetPredictions(
        tables[0].spec, tuple(places), tuple(formulas[row] for row in first),
        np.concatenate([table.truth for table in tables])[first], values, spread,
    )
