"""Where a run begins instead of at random: what it takes from a model that is trained already.

A trunk works on inputs that are standardised as in its own training, so the scalers of the field
come with it. A head reads the trunk's embedding and the descriptors beside it, so it comes only
where the descriptors do, which then are reduced and scaled as in the training of the head.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist

from densityjax.features.descriptors import Descriptors, Features, fit_descriptors
from densityjax.features.identification import ElementFinder
from densityjax.model.create import head_modules
from densityjax.model.layers import ADAPTER
from densityjax.model.objectives import VIEW
from densityjax.step.scalers import Statistics
from densityjax.step.train_state import TrainState
from densityjax.targets import TargetSpec

Modules = Mapping[str, Any]  # {module: its parameters}
_SAME = 1e-3  # distance, in spreads of an element, below which two atoms are the same one


@dataclasses.dataclass(frozen=True)
class Start:
    """A trained model as another run begins from it.

    Attributes:
        parameters: of the model, see `TrainState.params`; None of a run that goes on from a
          checkpoint of its own, which has them.
        specs: targets of its heads, auxiliary ones included, in the order of `statistics`.
        statistics: its scalers.
        descriptors: its own; None where those of the new run are of other blocks or sizes, which
          then are fitted to its own rows.
        facts: JSON of where it comes from, for run.json.
        objectives: that it learned without labels.
        decoder: of them, see `model.decoder`; None without any.
    """

    parameters: Modules | None
    specs: tuple[TargetSpec, ...]
    statistics: Statistics
    descriptors: Descriptors | None
    facts: dict[str, Any]
    objectives: tuple[str, ...] = ()
    decoder: Modules | None = None

    def described(
        self, features: Features, species: Sequence[np.ndarray], lattice: np.ndarray,
        num_electrons: np.ndarray, identify: bool,
    ) -> tuple[Descriptors, Features]:
        """As `fit_descriptors`, with this model's descriptors instead of fitted ones.

        An atom that the element finder remembers is not compared with itself: it would always be
        identified, and the network would trust what new materials do not offer.
        """
        own, finder = self.descriptors, self.descriptors.finder
        cells = lattice, num_electrons
        if finder is None:
            fitted, whole = fit_descriptors(features, species, *cells, {}, identify)
            return dataclasses.replace(own, finder=fitted.finder), whole
        if self.parameters is not None:
            own = dataclasses.replace(own, finder=_in_rows(finder, features["surroundings"]))
        return own, own.complete(features, *cells, training=True)

    def scalers_in(self, fitted: Statistics) -> Statistics:
        """Statistics of the new run with the scalers of the inputs that this model expects."""
        names = ["field_mean", "field_std"]
        names += [] if self.descriptors is None else ["feature_mean", "feature_std"]
        return dataclasses.replace(
            fitted, **{name: getattr(self.statistics, name) for name in names}
        )

    def heads_for(
        self, specs: Sequence[TargetSpec], modules: Modules
    ) -> tuple[list[str], dict[str, str]]:
        """Targets of a run whose heads this model has.

        Args:
            specs: of the run.
            modules: of a freshly initialised model of the run.

        Returns:
            (targets, {other target: why not}).
        """
        taken, others, known = [], {}, {spec.name: spec for spec in self.specs}
        for spec in specs:
            old = known.get(spec.name)
            if not all(name in modules for name in head_modules(spec.name)):
                others[spec.name] = "it follows from other targets (config.model.constraints)"
            elif old is None or self.parameters is None:
                others[spec.name] = "it has none"
            elif _trained_as(old) != _trained_as(spec):
                others[spec.name] = "its unit, transform or classes are others"
            elif self.descriptors is None:
                others[spec.name] = "other descriptors enter it (config.input)"
            elif not all(_fits(self.parameters, modules, name) for name in head_modules(spec.name)):
                others[spec.name] = "its width is another (config.model.head_width)"
            else:
                taken.append(spec.name)
        return taken, others

    def put_into(
        self, state: TrainState, specs: Sequence[TargetSpec], fitted: Statistics,
        objectives: Sequence[str] = (),
    ) -> TrainState:
        """The state before the first step with this model's trunk and heads in it.

        Args:
            state: freshly initialised, whose trunk has the same shapes.
            specs: of the run, auxiliary targets included, in the order of `fitted`.
            fitted: statistics of the run.
            objectives: that the run learns beside its targets.

        Raises:
            ValueError: a module of the trunk has other shapes.
        """
        if self.parameters is None:
            return state
        modules = dict(jax.device_get(state.params["model"]))
        heads = {name for spec in specs for name in head_modules(spec.name)}
        for name in modules:
            if name not in heads:
                if not _fits(self.parameters, modules, name):
                    raise ValueError(f"module {name} of the trunk has other parameters")
                modules[name] = _with_adapter(self.parameters[name], modules[name])
        old = {spec.name: place for place, spec in enumerate(self.specs)}
        taken, _ = self.heads_for(specs, modules)
        for place, spec in enumerate(specs):
            if spec.name in taken:
                hidden, out = head_modules(spec.name)
                modules[hidden] = self.parameters[hidden]
                modules[out] = _rescaled(
                    self.parameters[out], _scale(self.statistics, old[spec.name]),
                    _scale(fitted, place),
                )
        params = {**state.params, "model": modules}
        if self.decoder is not None and "decoder" in params:
            fresh = jax.device_get(params["decoder"])
            params["decoder"] = fresh | {
                name: self.decoder[name] for name in self.decoder_for(objectives, fresh)
            }
        # Copied twice: the state is donated, and a buffer may be donated only once.
        copies = [jax.tree.map(jnp.array, params) for _ in range(2)]
        return state.replace(params=copies[0], ema_params=copies[1])

    def decoder_for(self, objectives: Sequence[str], fresh: Modules) -> list[str]:
        """Modules of the decoder that a run takes over: those of voxels, of the same objectives.

        A view's numbers are principal components that are fitted anew, so what predicts them is
        new, too.

        Args:
            objectives: of the run.
            fresh: the run's decoder, freshly initialised.
        """
        own, other = (
            [name for name in names if name not in VIEW] for names in (self.objectives, objectives)
        )
        if self.decoder is None or own != other:
            return []
        names = [name for name in fresh if name.startswith("voxels")]
        return names if all(_fits(self.decoder, fresh, name) for name in names) else []


def _scale(statistics: Statistics, place: int) -> tuple[float, float]:
    """(mean, std) of the labels of a target."""
    return float(statistics.label_mean[place]), float(statistics.label_std[place])


def _rescaled(
    layer: Modules, old: tuple[float, float], new: tuple[float, float]
) -> dict[str, Any]:
    """The last layer of a head whose labels are standardised anew.

    Its output y means y * std + mean of the old labels; the new layer's output means the same by
    those of the new ones.

    Args:
        layer: kernel [H, W], bias [W].
        old, new: (mean, std) of the labels.
    """
    return {
        "kernel": layer["kernel"] * (old[1] / new[1]),
        "bias": (layer["bias"] * old[1] + old[0] - new[0]) / new[1],
    }


def _trained_as(spec: TargetSpec) -> tuple[Any, ...]:
    """What a head's output depends on beside the scale of its labels."""
    return spec.kind, spec.unit, spec.transform, spec.per, tuple(spec.classes)


def _fits(parameters: Modules, modules: Modules, name: str) -> bool:
    """Whether a module is there with the same parameters and shapes."""

    def shapes(module: Any) -> Any:
        return jax.tree.map(np.shape, module)

    if name not in parameters:
        return False
    return shapes(_with_adapter(parameters[name], modules[name])) == shapes(modules[name])


def _with_adapter(module: Any, fresh: Any) -> Any:
    """A module of a trunk with the fresh adapter, which changes nothing, where it has none."""
    return {ADAPTER: fresh[ADAPTER]} | dict(module) if ADAPTER in fresh else module


def _in_rows(finder: ElementFinder, surroundings: Sequence[np.ndarray]) -> ElementFinder:
    """The finder with `materials` counted in the rows that are given, -1 for those not there."""
    found = np.full(len(finder.materials), -1, np.int32)
    for row, atoms in enumerate(surroundings):
        apart = cdist(np.asarray(atoms, np.float32) / finder.scale, finder.surroundings)  # [N, A]
        same = finder.materials[apart.min(axis=0) < _SAME]
        found[np.isin(finder.materials, same)] = row
    return dataclasses.replace(finder, materials=found)
