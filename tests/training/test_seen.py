"""What a model has seen of a dataset: by name and fold, and through its pretraining sources."""

import pytest

from densityjax.training.seen import seen_of

ELASTIC, COARSE = "elastic_densities/grid32", "elastic_densities/grid24"
FOLDS = {"train_folds": [2, 3], "validation_fold": 1, "test_fold": 0}


def _dataset(name: str, content: str = "a") -> dict:
    """A folder's name has the digest of its content after its grid; its fingerprint has none."""
    named = f"{name}-{content}" if name.startswith("density_folder") else name
    return {"name": f"{named}/1.0.0", "fingerprint": f"{name}:1.0.0 archive {content} features 1"}


def _source(name: str, content: str = "a", withhold: str = "", of: tuple = (), **more) -> dict:
    found = _dataset(name, content) | FOLDS
    if not withhold:
        return found
    prints = [_dataset(*one)["fingerprint"] for one in of]
    return found | {"pretraining": {"withhold": withhold, "fingerprints": prints} | more}


@pytest.mark.parametrize(
    ("source", "learned"),
    [
        (_source(COARSE), [2, 3]),
        (_source("lemat_rho/grid32"), []),
        (_source("lemat_rho/grid32", withhold="system", of=[(ELASTIC,)]), [0, 1, 2, 3, 4]),
        (_source(COARSE, withhold="nothing", of=[(COARSE,)]), [0, 1, 2, 3, 4]),
        (_source(ELASTIC, withhold="system", of=[(ELASTIC,)]), [2, 3, 4]),
        (_source(ELASTIC, withhold="system", of=[("lemat_rho/grid32",)]), [2, 3]),
    ],
)
def test_folds_that_were_learned_from(source: dict, learned: list[int]):
    seen = seen_of(_dataset(ELASTIC), source)
    assert [fold for fold in range(-1, 5) if seen.learned(fold)] == learned
    assert seen.same == bool(learned)
    assert seen.chosen == ({1} if source["name"].startswith("elastic") else set())
    assert not seen.unclear


def test_excluded_materials_may_be_those_that_judge():
    source = _source("lemat_rho/grid32", withhold="system", of=[(ELASTIC,)], excluded_names=3)
    seen = seen_of(_dataset(ELASTIC), source)
    assert (seen.unclear, seen.same) == (True, False)


@pytest.mark.parametrize(
    ("source", "same", "unclear"),
    [
        (_source("density_folder/grid24", "a"), True, False),  # of another grid
        (_source("density_folder/grid32", "b"), False, True),  # with other labels, say
        (_source("density_folder/grid32", "a") | {"name": "density_folder/grid32-b/1.0.0"}, True,
         False),  # copied
        (_source(ELASTIC), False, False),
        (_source(ELASTIC, withhold="system", of=[("density_folder/grid32", "b")]), False, True),
        (_source("density_folder/grid32", withhold="id", of=[("density_folder/grid32", "b")]),
         True, False),  # itself without labels, withheld by itself
        (_source("density_folder/grid32", withhold="nothing", of=[("density_folder/grid32", "b")]),
         True, True),
    ],
)
def test_folders_that_cannot_be_told_apart(source: dict, same: bool, unclear: bool):
    seen = seen_of(_dataset("density_folder/grid32"), source)
    assert (seen.same, seen.unclear) == (same, unclear)
