"""What trained models say of materials: predictions of every target, spreads, warnings."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from densityjax.data.records import Records
from densityjax.prediction.materials import Material, Needs, prepare
from densityjax.results.applicability import join_warnings
from densityjax.results.averages import average_parts, network_answer
from densityjax.results.constraints import project
from densityjax.results.interval_scale import spreads_as_trained
from densityjax.results.predictions import (
    Predictions,
    compile_members,
    join_features,
    predict_members,
    unlabelled_records,
)
from densityjax.results.stack import IDENTITY
from densityjax.step.members import PredictMembers
from densityjax.targets import TargetSpec
from densityjax.training import mixture
from densityjax.training.trained_model import Mixture, TrainedModel


def predict_materials(
    model: TrainedModel, materials: Sequence[Material], batch_size: int = 0
) -> tuple[Predictions, list[list[str]]]:
    """Predicts materials as evaluation predicts the records of a dataset.

    Args:
        materials: on the grid of the model.
        batch_size: so many at a time; 0 for all. Calls with the same share one compilation.

    Returns:
        (predictions, warnings of each material).
    """
    needs = needs_of(((model,),))
    ready = [prepare(material, needs) for material in materials]
    (asked,) = _asked([model], ready, batch_size, join_features([m.features for m in ready]))
    return _said(model, asked, ready)[:2]


def needs_of(members: Sequence[Sequence[TrainedModel]]) -> Needs:
    """What all models of a run see of a material; the features are those that any of them needs."""
    models = [model for own in members for model in own]
    features = models[0].whole is not None or any(model.needs_features for model in models)
    return Needs(models[0].applicability.grid, models[0].config.input.core, features)


def network_records(
    model: TrainedModel, materials: Sequence[Material], features: Mapping[str, Any] | None = None
) -> Records:
    """Records as the network sees them: with latents in the place of densities, if it does.

    Args:
        features: see `unlabelled_records`.
    """
    records = unlabelled_records(
        [material.record for material in materials], model.specs, model.config.input.channels,
        features,
    )
    encoder, volume = model.encoder, records.volume
    if encoder is None:
        return records
    # One by one, so that one program serves any number of them.
    latents = [
        encoder.encode([records.density(row)], volume[row : row + 1]) for row in range(len(records))
    ]
    return records.with_latents(np.concatenate(latents), encoder.stride)


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What the network of a model says: the mean over its states.

    Attributes:
        network: see `network_answer`.
        records: the materials, with what enters the network beside the density.
    """

    network: Predictions
    records: Records


def _asked(
    models: Sequence[TrainedModel], materials: Sequence[Material], batch_size: int,
    features: Mapping[str, Any],
) -> list[_Asked]:
    """Asks the networks of models; those that one program serves together."""
    found: dict[int, _Asked] = {}
    for program, places in _by_program(models).items():
        first = models[places[0]]
        made = network_records(first, materials, features)
        records = {place: models[place].described(made) for place in places}
        each = [place for place in places for _ in models[place].states]
        said = predict_members(
            program, _states(tuple(models[place] for place in places)),
            [records[place] for place in each], first.specs,
            [models[place].statistics for place in each], batch_size or len(materials),
            first.config.train.num_threads,
        )
        for place in places:
            own = [parts for parts, at in zip(said, each, strict=True) if at == place]
            answer = network_answer(own, first.specs, models[place].config.model.constraints)
            found[place] = _Asked(answer, records[place])
    return [found[place] for place in range(len(models))]


def _by_program(models: Sequence[TrainedModel]) -> dict[PredictMembers, list[int]]:
    """{program: places of the models that it serves}."""
    found: dict[PredictMembers, list[int]] = {}
    for place, model in enumerate(models):
        found.setdefault(model.program, []).append(place)
    return found


def compile_networks(members: Sequence[Sequence[TrainedModel]], batch_size: int) -> None:
    """Compiles what `answers` runs for so many materials at a time, so that it need not."""
    models = [model for own in members for model in own]
    for program, places in _by_program(models).items():
        first, own = models[places[0]], tuple(models[place] for place in places)
        count = sum(len(model.states) for model in own)
        compile_members(
            program, _states(own), first.grid, first.channels, (count, first.descriptors.size),
            batch_size,
        )


@functools.lru_cache(maxsize=4)  # of groups of targets, which have programs of their own
def _states(models: tuple[TrainedModel, ...]) -> Any:
    """The states of models that one program serves, on every device."""
    return models[0].program.place([state for model in models for state in model.states])


def _said(
    model: TrainedModel, asked: _Asked, materials: Sequence[Material]
) -> tuple[Predictions, list[list[str]], tuple[dict, dict]]:
    """`predict_materials`, and the spreads of `spreads_as_trained`."""
    channels, records, predictions = model.config.input.channels, asked.records, asked.network
    network, columns = predictions, {}
    if model.stack is not None:
        columns = mixture.ask(
            model.yardsticks, model.config.stack.learners, network, records, model.specs
        ).columns
        predictions = mixture.answer(model.stack, columns, network, records, model.specs)
    learners = {name: own for name, own in columns.items() if name != IDENTITY}
    sees_views = not learners or mixture.NETWORK in learners
    spreads = spreads_as_trained(
        model.specs, network.spread if sees_views else {}, network.values, learners,
        mixture.cells_of(records),
    )
    distances = model.applicability.distances(predictions.embedding)
    warnings = []
    for material, distance in zip(materials, distances, strict=True):
        found = model.applicability.warnings_for(material.record, material.code, distance)
        if channels > material.record["density"].shape[-1]:
            found.append("no magnetisation in the file, taken as zero")
        warnings.append([*material.notes, *found])
    return predictions, warnings, spreads


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is said of one target for n materials; the fields are those of `Predictions`.

    Attributes:
        values: [n] in the target's unit, or class probabilities [n, K].
        spread: [n] standard deviation over views, and over members of an ensemble.
        warnings: of each material.
        views, learners: [n] see `interval_scale.Evidence`; None where there is none.
    """

    spec: TargetSpec
    values: np.ndarray
    spread: np.ndarray
    warnings: list[list[str]]
    views: np.ndarray | None = None
    learners: np.ndarray | None = None


def answers(
    members: Sequence[Sequence[TrainedModel]], materials: Sequence[Material], batch_size: int = 0
) -> list[Answer]:
    """Predictions of every target, averaged over the members of an ensemble.

    Args:
        members: of each the models, which have their own targets; those of all members are equal.
        materials, batch_size: see `predict_materials`.
    """
    whole, models = members[0][0].whole, [model for own in members for model in own]
    needs = needs_of(members)
    materials = [prepare(material, needs) for material in materials]
    features = join_features([material.features for material in materials])
    by_target: dict[str, list[Answer]] = {}
    asked = _asked(models, materials, batch_size, features)
    for model, own in zip(models, asked, strict=True):
        predictions, warnings, doubts = _said(model, own, materials)
        for spec in model.specs:
            values, spread = predictions.values[spec.name], predictions.spread[spec.name]
            found = Answer(spec, values, spread, warnings, *(d.get(spec.name) for d in doubts))
            by_target.setdefault(spec.name, []).append(found)
    found = [_average(parts) for parts in by_target.values()]
    if whole is None:
        values = {answer.spec.name: answer.values for answer in found}
        values = project(values, [a.spec for a in found], models[0].config.model.constraints)
        return [dataclasses.replace(a, values=values[a.spec.name]) for a in found]
    made, channels = [material.record for material in materials], models[0].config.input.channels
    records = unlabelled_records(made, whole.specs, channels, features)
    return _mixed(whole, found, records.described(whole.descriptors))


def _mixed(whole: Mixture, networks: Sequence[Answer], records: Records) -> list[Answer]:
    """What the mixture of an ensemble says, given the mean of its networks."""
    network = Predictions(
        {answer.spec.name: answer.values for answer in networks},
        {answer.spec.name: answer.spread for answer in networks}, {}, np.zeros((len(records), 0)),
    )
    columns = mixture.ask(
        whole.yardsticks, whole.learners, network, records, whole.specs
    ).columns
    said = mixture.answer(whole.stack, columns, network, records, whole.specs)
    learners = {name: own for name, own in columns.items() if name != IDENTITY}
    _, between = spreads_as_trained(whole.specs, {}, {}, learners, mixture.cells_of(records))
    return [
        dataclasses.replace(
            answer, values=said.values[answer.spec.name], spread=said.spread[answer.spec.name],
            views=None if answer.views is None else (mixture.NETWORK in learners) * answer.views,
            learners=between.get(answer.spec.name),
        )
        for answer in networks
    ]


def _average(parts: Sequence[Answer]) -> Answer:
    if len(parts) == 1:
        return parts[0]
    values, spread = average_parts([p.values for p in parts], [p.spread for p in parts])
    warnings = [join_warnings(found) for found in zip(*(part.warnings for part in parts))]
    return Answer(
        parts[0].spec, values, spread, warnings,
        *(None if own[0] is None else np.mean(own, axis=0)
          for own in ([p.views for p in parts], [p.learners for p in parts])),
    )
