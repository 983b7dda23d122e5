"""Auxiliary targets: means of elemental properties over a cell, which a network learns beside.

They are known of every material, cost no calculation, and make the trunk see which elements a
density belongs to. They are trained with a weight of their own and never reported.
"""

from collections.abc import Sequence

import numpy as np

from densityjax.features.composition import PROPERTIES, element_table
from densityjax.runtime.errors import ConfigError
from densityjax.targets import TargetSpec

_PREFIX = "auxiliary_"


def auxiliary_specs(properties: Sequence[str]) -> tuple[TargetSpec, ...]:
    """A target for the mean of each elemental property, of `composition.PROPERTIES`.

    Raises:
        ConfigError: there is no such property.
    """
    for name in properties:
        if name not in PROPERTIES:
            raise ConfigError(
                f"config.auxiliary.properties has {name!r}: each must be one of "
                + ", ".join(PROPERTIES)
            )
    return tuple(
        TargetSpec(_PREFIX + name, "regression", "", f"mean {name} of the elements")
        for name in properties
    )


def auxiliary_labels(
    properties: Sequence[str], species: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """Labels of the targets above.

    Args:
        species: n arrays of atomic numbers.

    Returns:
        {target: [n] float64}, units of features/README.md; NaN where an element is not tabulated.
    """
    columns = [PROPERTIES.index(name) for name in properties]
    table = element_table()
    means = np.full((len(species), len(columns)), np.nan)  # [n, properties]
    for row, numbers in enumerate(species):
        if len(numbers) and max(numbers) < len(table):
            means[row] = table[np.asarray(numbers, int)][:, columns].mean(axis=0)
    return {_PREFIX + name: means[:, place] for place, name in enumerate(properties)}
