"""Which targets share a trunk: from what a config says to a hashable tuple of tuples of names.

A groups file is plain Python, written by `densityjax.target_grouping` and read here without being
run: assignments of literals only.
"""

import ast
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densityjax.runtime.config_files import existing_or_shipped
from densityjax.runtime.errors import UserError

TargetGroups = tuple[tuple[str, ...], ...]

_FIELDS = {
    "DATASET": str, "VERSION": str, "FINGERPRINT": str, "TARGETS": tuple, "TRAIN_FOLDS": dict,
    "SETTINGS": dict, "GROUPS": dict,
}
_RANDOM = re.compile(r"random\s+(\d+)\s+of\s+(\S.*)")
_ATTEMPTS = 1000  # draws of a random partition before it is said that there are no more


class GroupsError(UserError):
    """Groups do not fit the config, or their file is stale or damaged; says what to do."""


@dataclasses.dataclass(frozen=True)
class DatasetIdentity:
    """Where labels come from, whatever the grid of the densities: as a groups file states it."""

    dataset: str
    version: str
    fingerprint: str

    @classmethod
    def of(cls, builder: Any) -> "DatasetIdentity":
        """Identity of a prepared TFDS builder of this project."""
        return cls(builder.name, str(builder.version), builder.info.metadata["archive_sha256"][:16])


@dataclasses.dataclass(frozen=True)
class GroupsFile:
    """Contents of a groups file.

    Attributes:
        path: where it was read.
        identity: dataset whose labels the groups were computed from.
        targets: in the order of the config that they were computed with.
        train_folds: {test fold: folds whose labels were used}.
        settings: how they were computed.
        groups: {test fold: groups}.
    """

    path: Path
    identity: DatasetIdentity
    targets: tuple[str, ...]
    train_folds: dict[int, tuple[int, ...]]
    settings: dict[str, Any]
    groups: dict[int, TargetGroups]

    def for_run(
        self, targets: Sequence[str], test_fold: int, train_folds: Sequence[int],
        identity: DatasetIdentity,
    ) -> TargetGroups:
        """Groups for one test fold, ordered as `targets`.

        Raises:
            GroupsError: the file was made for other data, targets or folds.
        """
        remedy = f"make it again: python -m densityjax.target_grouping --out={self.path} --config="
        if self.identity != identity:
            raise GroupsError(
                f"{self.path} was computed from {_spoken(self.identity)}, the run has "
                f"{_spoken(identity)}; {remedy}..."
            )
        if set(self.targets) != set(targets):
            raise GroupsError(
                f"{self.path} groups the targets {', '.join(self.targets)}, config.targets are "
                f"{', '.join(targets)}; {remedy}..."
            )
        if test_fold not in self.groups:
            raise GroupsError(
                f"{self.path} has no groups for config.data.test_fold={test_fold}, only for "
                f"{', '.join(map(str, self.groups))}; {remedy}..."
            )
        if set(self.train_folds[test_fold]) != set(train_folds):
            raise GroupsError(
                f"{self.path} used the labels of folds {self.train_folds[test_fold]} for test fold "
                f"{test_fold}, config.data.train_folds are {tuple(train_folds)}: groups must "
                "see the labels of the training folds and no others"
            )
        return check_groups(self.groups[test_fold], targets, str(self.path))


def _spoken(identity: DatasetIdentity) -> str:
    return f"{identity.dataset} {identity.version} (archive {identity.fingerprint})"


def read_groups_file(path: str | Path) -> GroupsFile:
    """Reads a groups file; nothing in it is executed.

    Raises:
        GroupsError: the file is missing, or is not what `densityjax.target_grouping` writes.
    """
    path = Path(path)
    remedy = "write it with python -m densityjax.target_grouping --config=... --out=" + str(path)
    try:
        text = existing_or_shipped(path).read_text(encoding="utf-8")
        tree = ast.parse(text, filename=str(path))
    except OSError as error:
        raise GroupsError(
            f"groups file {path} cannot be read ({error.strerror}): {remedy}"
        ) from None
    except (SyntaxError, ValueError) as error:
        raise GroupsError(f"groups file {path} is damaged ({error}): {remedy}") from None
    values: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                values[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                raise GroupsError(
                    f"groups file {path}, line {node.lineno}: not a literal; {remedy}"
                ) from None
    for name, kind in _FIELDS.items():
        if not isinstance(values.get(name), kind):
            raise GroupsError(f"groups file {path} has no {kind.__name__} {name}: {remedy}")
    if set(values["TRAIN_FOLDS"]) != set(values["GROUPS"]):
        raise GroupsError(f"groups file {path}: TRAIN_FOLDS and GROUPS have other folds: {remedy}")
    return GroupsFile(
        path=path,
        identity=DatasetIdentity(values["DATASET"], values["VERSION"], values["FINGERPRINT"]),
        targets=values["TARGETS"],
        train_folds=values["TRAIN_FOLDS"],
        settings=values["SETTINGS"],
        groups=values["GROUPS"],
    )


def check_groups(
    groups: Sequence[Sequence[str]], targets: Sequence[str], source: str
) -> TargetGroups:
    """A partition of the targets as a tuple: members in the order of `targets`, groups by theirs.

    Args:
        source: where the groups come from, for the message.

    Raises:
        GroupsError: a member is not a target, is in two groups, or a target is in none.
    """
    members = [name for group in groups for name in group]
    unknown = sorted(set(members) - set(targets))
    if unknown:
        raise GroupsError(
            f"{source} names {', '.join(unknown)}, not in config.targets ({', '.join(targets)}): "
            "take it out of the groups, or into the targets"
        )
    twice = sorted({name for name in members if members.count(name) > 1})
    if twice:
        raise GroupsError(f"{source} has {', '.join(twice)} in more than one place")
    absent = [name for name in targets if name not in members]
    if absent:
        raise GroupsError(
            f"{source} leaves out {', '.join(absent)}: add it to a group, or take it out of "
            "config.targets"
        )
    order = {name: place for place, name in enumerate(targets)}
    sorted_groups = [tuple(sorted(group, key=order.__getitem__)) for group in groups if group]
    return tuple(sorted(sorted_groups, key=lambda group: order[group[0]]))


def resolve_groups(
    text: str, targets: Sequence[str], *, test_fold: int, train_folds: Sequence[int],
    held_out_elements: Sequence[str] = (), identity: DatasetIdentity | None = None,
) -> TargetGroups:
    """Groups that `config.groups` describes.

    Args:
        text: 'all', 'single', 'FILE.py', 'random K of FILE.py', or 'a+b,c'.
        targets: of the run.
        test_fold, train_folds, held_out_elements: of the run, which a file's groups must fit.
        identity: of the run's dataset; needed for a file.

    Raises:
        GroupsError: the text is not understood, or the groups do not fit the run.
    """
    targets = tuple(targets)
    if text == "all":
        return (targets,)
    if text == "single":
        return tuple((name,) for name in targets)
    random = _RANDOM.fullmatch(text)
    if random or text.endswith(".py"):
        if held_out_elements:
            raise GroupsError(
                f"config.groups='{text}' was computed from whole training folds, but "
                "config.data.held_out_elements leaves materials out of them: use 'all', "
                "'single' or groups spelled out"
            )
        assert identity is not None
        file = read_groups_file(random.group(2) if random else text)
        groups = file.for_run(targets, test_fold, train_folds, identity)
        return random_partition(groups, targets, int(random.group(1))) if random else groups
    parts = [[name.strip() for name in part.split("+")] for part in text.split(",")]
    return check_groups(parts, targets, f"config.groups='{text}'")


def spell(groups: TargetGroups) -> str:
    """Groups as `config.groups` takes them: 'a+b,c'."""
    return ",".join("+".join(group) for group in groups)


def random_partition(
    groups: TargetGroups, targets: Sequence[str], number: int
) -> TargetGroups:
    """The `number`-th of a fixed sequence of different partitions with the sizes of `groups`.

    None of them is `groups` itself. The sequence depends on the sizes and the targets alone.

    Raises:
        GroupsError: there are not so many different partitions of these sizes.
    """
    sizes = sorted((len(group) for group in groups), reverse=True)
    generator = np.random.default_rng([len(targets), *sizes])
    stops = np.cumsum(sizes)[:-1]
    seen = {groups}
    for _ in range(_ATTEMPTS):
        order = generator.permutation(len(targets))
        drawn = [[targets[i] for i in part] for part in np.split(order, stops)]
        partition = check_groups(drawn, targets, "a random partition")
        if partition not in seen:
            if len(seen) == number + 1:
                return partition
            seen.add(partition)
    raise GroupsError(
        f"there is no random partition {number} of {len(targets)} targets in groups of "
        f"{', '.join(map(str, sizes))}: fewer different ones exist; ask for fewer of them, or for "
        "another number of groups (config.grouping.num_groups)"
    )
