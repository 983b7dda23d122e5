"""Which model is asked what about which material: one target of one density file."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from densityjax.attribution import network
from densityjax.density.core import seen_record
from densityjax.prediction.answers import answers
from densityjax.prediction.materials import Material
from densityjax.prediction.model import Model
from densityjax.results.predictions import features_of, unlabelled_records
from densityjax.results.stack import IDENTITY
from densityjax.runtime import compile_cache
from densityjax.runtime.errors import UserError
from densityjax.step.create_task import create_task
from densityjax.step.task import Task
from densityjax.targets import TargetSpec
from densityjax.training.mixture import NETWORK
from densityjax.training.trained_model import TrainedModel

BATCH = 8  # densities that the network is asked about at a time
VIEWS = 32  # a map needs more than a prediction: each view sees few of the cell's voxels


@dataclasses.dataclass(frozen=True)
class NetworkPart:
    """One of the networks whose mean is the network's prediction.

    Attributes:
        model: the run that it is of.
        task: static part of its predict step.
        arrays: see `network.Part`.
        share: of the mean.
    """

    model: TrainedModel
    task: Task
    arrays: network.Part
    share: float


@dataclasses.dataclass(frozen=True)
class Question:
    """A target, a material, and what is asked.

    Attributes:
        model: all that answers.
        material: on the grid of the model.
        spec: the target.
        which: number of the class whose probability is explained; 0 of a regression target.
        parts: the networks that have the target.
        num_views: evaluation views that the network sees.
    """

    model: Model
    material: Material
    spec: TargetSpec
    which: int
    parts: tuple[NetworkPart, ...]
    num_views: int

    @property
    def cell(self) -> network.Cell:
        """Lattice and electrons of the material."""
        record = self.material.record
        return {
            "lattice": np.asarray(record["lattice"], np.float32),
            "num_electrons": np.float32(record["num_electrons"]),
        }

    @property
    def density(self) -> np.ndarray:
        """[G, G, G, C] float32 e/Å^3 (and μB/Å^3) of the file, as the models see it."""
        return self.see(self.material.record["density"])

    def see(self, density: np.ndarray) -> np.ndarray:
        """A stored density [G, G, G, C] in the cell as the models see it, see `density.core`.

        The change is linear and keeps the electrons. The methods below take what it gives.
        """
        core = self.parts[0].model.config.input.core
        return seen_record({**self.material.record, "density": density}, core)["density"]

    def _channels(self, densities: np.ndarray) -> np.ndarray:
        """Densities [..., C] with the channels that the network takes; a missing one is zero."""
        channels = self.parts[0].model.config.input.channels
        added = [(0, 0)] * (densities.ndim - 1) + [(0, max(channels - densities.shape[-1], 0))]
        return np.pad(densities[..., :channels], added).astype(np.float32)

    @property
    def unit(self) -> str:
        """Of what is explained."""
        return self.spec.unit if self.spec.kind == "regression" else "probability"

    @property
    def weights(self) -> dict[str, float]:
        """{learner: weight} of what answers; of an ensemble of mixtures the mean over members."""
        whole = self.model.members[0][0].whole
        stacks = [part.model.stack for part in self.parts] if whole is None else [whole.stack]
        found: dict[str, float] = {}
        for stack in stacks:
            own = {NETWORK: 1.0} if stack is None else stack.weights[self.spec.name]
            for name, weight in own.items():
                found[name] = found.get(name, 0.0) + weight / len(stacks)
        return found

    def descriptors(self, densities: Sequence[np.ndarray]) -> list[np.ndarray]:
        """[n, D] that enter the network of each part beside densities [G, G, G, C]."""
        empty = [np.zeros((len(densities), 0), np.float32) for _ in self.parts]
        if not any(part.model.descriptors.size for part in self.parts):
            return empty
        made = [{**self.material.record, "density": density} for density in densities]
        features, found = features_of(made), {}
        for part in self.parts:
            key = id(part.model)
            if key not in found:
                records = unlabelled_records(
                    made, part.model.specs, densities[0].shape[-1], features
                )
                found[key] = part.model.described(records).descriptors
        return [found[id(part.model)] for part in self.parts]

    def network_values(
        self, part: NetworkPart, densities: np.ndarray, descriptors: np.ndarray
    ) -> np.ndarray:
        """[V, n] predictions of densities [n, G, G, G, C] from every view, in the unit."""
        densities, found = self._channels(densities), []
        for rows in _chunks(len(densities)):
            with compile_cache.unwritten():
                values = network.values(
                    densities[rows], descriptors[rows], part.arrays, self.cell,
                    **self._static(part),
                )
            found.append(np.asarray(values))
        return np.concatenate(found, axis=1)[:, : len(densities)]

    def network_gradient(
        self, part: NetworkPart, densities: np.ndarray, descriptors: np.ndarray,
        weights: np.ndarray,
    ) -> np.ndarray:
        """[V, G, G, G, C] weighted sum over densities of gradients, unit per e/Å^3.

        Of channels that the network does not take the gradient is 0.
        """
        channels, total = densities.shape[-1], 0.0
        densities = self._channels(densities)
        for number, rows in enumerate(_chunks(len(densities))):
            own = weights[rows] * (number * BATCH + np.arange(BATCH) < len(densities))
            with compile_cache.unwritten():
                total = total + np.asarray(network.weighted_gradient(
                    densities[rows], descriptors[rows], own.astype(np.float32), part.arrays,
                    self.cell, **self._static(part),
                ))
        missing = max(channels - total.shape[-1], 0)
        return np.pad(total[..., :channels], ((0, 0),) * 4 + ((0, missing),))

    def class_activation(
        self, part: NetworkPart, descriptors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `network.class_activation`, with the descriptors [D] of the material."""
        with compile_cache.unwritten():
            found = network.class_activation(
                self._channels(self.density), descriptors, part.arrays, self.cell,
                **self._static(part),
            )
        return np.asarray(found[0]), np.asarray(found[1])

    def answer(self, materials: Sequence[Material]) -> np.ndarray:
        """[n] what everything that answers says, in the unit, as a table of predictions has it."""
        for answer in answers(self.model.members, materials, len(materials)):
            if answer.spec.name == self.spec.name:
                values = answer.values
                return values if values.ndim == 1 else values[:, self.which]
        raise AssertionError("the target was looked up among those of the model")

    def _static(self, part: NetworkPart) -> dict:
        return {"task": part.task, "num_views": self.num_views}


def _chunks(size: int) -> Iterator[np.ndarray]:
    """Rows [BATCH] at a time, the last ones once more to fill the last."""
    for start in range(0, size, BATCH):
        yield np.minimum(np.arange(start, start + BATCH), size - 1)


def ask(model: Model, material: Material, target: str, num_views: int = 0) -> Question:
    """The question of a target of a material; of classes that of the one that is predicted.

    Args:
        num_views: 0 for as many as the run evaluates with, or `VIEWS` if that is more.

    Raises:
        UserError: the model has no such target, the material no atoms or atoms without a name.
    """
    specs = {spec.name: spec for spec in model.specs}
    if target not in specs:
        raise UserError(f"--target={target} is not among the model's: {', '.join(specs)}")
    if model.members[0][0].encoder is not None:
        raise UserError(
            f"{model.path} sees densities through an autoencoder (config.input.encoder), of which "
            "no maps are made: explain a model that was trained on densities"
        )
    species = material.record["species"]
    if not len(species) or (species == 0).any():
        raise UserError(
            f"{material.source}: its atoms must be there and have names, for a map is shared among "
            "them: name the elements in the file"
        )
    which = 0
    if specs[target].kind == "classification":
        (said,) = [a for a in answers(model.members, [material]) if a.spec.name == target]
        which = int(said.values[0].argmax())
    having = [
        own for member in model.members for own in member
        if target in {spec.name for spec in own.specs}
    ]
    parts = [part for own in having for part in _network_parts(own, target, which, len(having))]
    views = num_views or max(having[0].config.view.evaluation_views, VIEWS)
    return Question(model, material, specs[target], which, tuple(parts), views)


def _network_parts(
    model: TrainedModel, target: str, which: int, of: int
) -> list[NetworkPart]:
    column = [spec.name for spec in model.specs].index(target)
    task = dataclasses.replace(
        create_task(model.config, model.specs, num_steps=1), tx=None, ema_decay=0.0
    )
    device = SingleDeviceSharding(jax.local_devices()[0])
    return [
        NetworkPart(model, task, {
            "params": jax.device_put(state.ema_params, device),
            "statistics": jax.device_put(model.statistics.arrays(bool(task.constraints)), device),
            "choice": network.choose(
                task, model.specs[column], which, model.statistics.label_mean[column],
                model.statistics.label_std[column],
            ),
        }, 1 / (of * len(model.states)))
        for state in model.states
    ]


def said_by(question: Question, of_all: bool = False) -> str:
    """Who answers, and how much of it the network is, in a sentence.

    Args:
        of_all: the map is of everything that answers, as that of occlusion is.
    """
    name, weights = question.spec.name, question.weights
    whose = "all that answers" if of_all else "the network"
    if IDENTITY in weights:
        return (
            f"What answers {name} is an identity of the input ({question.spec.identity}): the "
            f"network has no say, and the map is of {whose}."
        )
    share = weights.get(NETWORK, 0.0)
    others = [other for other, weight in weights.items() if weight > 0 and other != NETWORK]
    if not others:
        return f"The network alone answers {name}."
    return (
        f"The network has weight {share:.2f} in what answers {name}, beside {', '.join(others)}: "
        f"the map is of {whose}."
    )
