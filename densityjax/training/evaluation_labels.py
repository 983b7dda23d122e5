"""Whether the folds that a run is judged on have labels, checked at its start."""

import logging
from collections.abc import Mapping, Sequence

from densityjax.data.dataset import DatasetError
from densityjax.data.records import Records
from densityjax.targets import TargetSpec, labelled

log = logging.getLogger("densityjax")


def check_evaluation_labels(
    splits: Mapping[str, Records], specs: Sequence[TargetSpec], fold: int
) -> None:
    """Checks at the start that the validation fold will be able to choose the best state.

    A target without labels there is left out of the choice, if others have some; a target without
    labels in the test set gets no metrics. Both are said in a warning.

    Args:
        splits: {'validation', 'test': records}.
        fold: of validation.

    Raises:
        DatasetError: no target has a label in the validation fold.
    """
    check_validation_labels(splits["validation"], specs, fold)
    for role, where, what in (
        ("validation", f"validation fold (config.data.validation_fold={fold})",
         "the other targets alone choose the best state"),
        ("test", "test set", "there will be no metrics of it"),
    ):
        names = _without_labels(splits[role], specs)
        if names:
            log.warning(
                "No label of %s in the %d materials of the %s: %s", ", ".join(names),
                len(splits[role]), where, what,
            )


def check_validation_labels(records: Records, specs: Sequence[TargetSpec], fold: int) -> None:
    """Raises DatasetError if no target has a label in the validation fold, see above."""
    names = _without_labels(records, specs)
    if len(names) == len(specs):
        raise DatasetError(
            f"no label of {', '.join(names)} in the {len(records)} materials of the validation "
            f"fold (config.data.validation_fold={fold}), which chooses the best state: choose "
            "another fold, or other config.targets"
        )


def _without_labels(records: Records, specs: Sequence[TargetSpec]) -> list[str]:
    return [spec.name for spec in specs if not labelled(spec, records.labels[spec.name]).any()]
