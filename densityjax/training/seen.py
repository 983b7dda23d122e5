"""What a trained model has seen of the materials that a run is judged on, as its run.json tells."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from densityjax.config import NO_FOLD

UNCLEAR = (
    "Whether %s learned from materials of the validation and test folds of this run cannot be told "
    "of these datasets: if it did, scores of this run are not those of new materials"
)
_FOLDER = "density_folder"


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a model has seen of the materials of a run's dataset, on whichever grid.

    Attributes:
        fitted: folds that it learned from.
        chosen: folds that chose its best state.
        spared: where the materials were among its config.pretraining.sources, the folds that it did
          not learn from; it did from all others. None where they were not.
        unclear: it may have seen more: of folders of densities neither name nor fingerprint tell
          that they differ in more than labels, and an excluded material may be of any fold.
    """

    fitted: frozenset[int]
    chosen: frozenset[int]
    spared: frozenset[int] | None
    unclear: bool

    @property
    def same(self) -> bool:
        """Whether it has surely seen some of the materials."""
        return bool(self.fitted) or self.spared is not None

    def learned(self, fold: int) -> bool:
        """Whether it learned from materials of a fold."""
        if fold == NO_FOLD:
            return False
        return fold in self.fitted or (self.spared is not None and fold not in self.spared)


def seen_of(dataset: Mapping[str, Any], source: Mapping[str, Any]) -> Seen:
    """What a model has seen.

    Args:
        dataset: name and fingerprint of the run's.
        source: what run.json of the model says of its dataset: name, fingerprint, folds, and
          under 'pretraining' what `data.unlabelled.with_sources` reports.
    """
    pretraining = source.get("pretraining") or {}
    own = _same(dataset, source)
    among = [
        _same(dataset, {"name": fingerprint.partition(":")[0], "fingerprint": fingerprint})
        for fingerprint in pretraining.get("fingerprints", ())
    ]
    guarded = own is True and pretraining.get("withhold") != "nothing"
    spared, unclear = None, own is None or (None in among and not guarded)
    if True in among and pretraining.get("excluded_names") and not guarded:
        unclear = True  # the test fold may be what was excluded
    elif True in among:
        folds = {source["validation_fold"], source.get("test_fold")} if guarded else ()
        spared = frozenset(folds)
    return Seen(
        frozenset(source["train_folds"]) if own else frozenset(),
        frozenset([source["validation_fold"]]) if own else frozenset(), spared, unclear,
    )


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool | None:
    """Whether two datasets are of the same materials; None where that cannot be told.

    Args:
        one, other: name, 'elastic_densities/grid48/2.0.0', and fingerprint.
    """
    kind = one["name"].partition("/")[0]
    if kind != other["name"].partition("/")[0]:
        return False
    if kind != _FOLDER or one["fingerprint"] == other["fingerprint"]:
        return True
    # 'grid48-DIGEST/1.0.0': of content and labels, whatever the grid.
    digests = {name.partition("/")[2].partition("-")[2] for name in (one["name"], other["name"])}
    return True if len(digests) == 1 and digests != {""} else None
