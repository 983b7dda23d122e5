"""A small real dataset, loaded as these tests need it."""

from densityjax.data.records import load_records
from densityjax.targets import get_specs

NAME = "elastic_densities/grid24"
SPECS = get_specs(["volume", "debye_temperature", "is_metal"])
FOLDS = ("fold2", "fold3", "fold4")


def load(builder, folds=FOLDS, specs=SPECS, **changes):
    options = dict(channels=2, spin_polarized_only=False, cache_in_memory=True)
    return load_records(builder, folds, specs, **options | changes)
