"""What `config.grouping` says, checked."""

import dataclasses

from ml_collections import ConfigDict

from densityjax.runtime.errors import ConfigError
from densityjax.target_grouping.columns import MIN_SHARED
from densityjax.target_grouping.measures import MEASURES

MODEL_MEASURES = ("transfer", "task_affinity", "gradient_cosine")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `config.grouping` says; see configs/elastic.py."""

    similarity: str
    similarities: tuple[str, ...]
    num_groups: int
    permutations: int
    bootstraps: int
    neighbours: int
    transfer_neighbours: int
    max_materials: int
    epochs: int
    seed: int

    @classmethod
    def from_config(cls, grouping: ConfigDict) -> "Settings":
        """Checks and takes the section; `similarity` is computed whether listed or not.

        Raises:
            ConfigError: a name is unknown or a number too small.
        """
        values = {field.name: grouping[field.name] for field in dataclasses.fields(cls)}
        names = tuple(dict.fromkeys((*values["similarities"], values["similarity"])))
        known = (*MEASURES, *MODEL_MEASURES)
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"unknown similarity '{name}' in config.grouping: known are {', '.join(known)}"
                )
        least = dict(
            permutations=99, bootstraps=1, neighbours=1, transfer_neighbours=1,
            max_materials=MIN_SHARED, epochs=1, num_groups=0, seed=0,
        )
        for name, smallest in least.items():
            if values[name] < smallest:
                raise ConfigError(
                    f"config.grouping.{name}={values[name]}: must be at least {smallest}"
                )
        return cls(**values | {"similarities": names})

    @property
    def model_measures(self) -> tuple[str, ...]:
        """Those of the similarities for which models are trained."""
        return tuple(name for name in self.similarities if name in MODEL_MEASURES)
