"""Columns of labels.csv -> target specifications and labels: targets.toml first, then guesses."""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from densityjax.targets import TARGETS, TargetSpec
from tfds_builders.density_folder.bookkeeping import why_bookkeeping
from tfds_builders.density_folder.cells import (
    REPEATED_SENTINELS,
    SENTINELS,
    decimal_comma,
    has_unit,
    is_missing,
    looks_like_number,
    may_be_thousands,
    number,
    with_points,
)
from tfds_builders.density_folder.headers import split_header
from tfds_builders.density_folder.problems import Problem
from tfds_builders.density_folder.settings import Settings
from tfds_builders.density_folder.units import same_unit
from tfds_builders.errors import DatasetSourceError

# Columns with a meaning of their own; the last two are there for people: densities have their own.
NOT_TARGETS = ("file", "material_id", "fold", "formula", "chemical_system")
MAX_CLASSES = 20  # a column of text with more different values is not taken for classes
# A label further beyond the 5th or 95th percentile than so many times their distance explodes.
EXPLODING, EXPLODING_MINIMUM_LABELS = 10, 20

# What stands for the two classes of a target whose own names are others.
_WORDS = {"false": 0, "no": 0, "n": 0, "f": 0, "true": 1, "yes": 1, "y": 1, "t": 1}
_NEGATION = re.compile(r"^(?:non|not)[\s_-]*")


@dataclasses.dataclass(frozen=True)
class LabelColumn:
    """A column that is a target.

    Attributes:
        labels: [n] float32 with NaN where missing, or int32 with -1, by row of labels.csv.
    """

    column: str
    spec: TargetSpec
    labels: np.ndarray


def read_labels(
    cells: Mapping[str, Sequence[str]], settings: Settings, ids: Sequence[str],
    separator: str = ",",
) -> tuple[list[LabelColumn], list[Problem]]:
    """Labels of all columns that are targets.

    Args:
        cells: {column: [n] text}, without the columns of `NOT_TARGETS`.
        ids: [n] of the rows, for the table of problems.
        separator: of the table, which tells decimal commas from those of thousands.

    Returns:
        (columns; problems: labels that are none, and columns that are no targets).

    Raises:
        DatasetSourceError: two columns are the same target.
    """
    found: list[LabelColumn] = []
    problems: list[Problem] = []
    decimal = decimal_comma(cells.values())
    for column, texts in cells.items():
        name, _ = split_header(column)
        if column in settings.ignore or name in settings.ignore:
            continue
        fields = settings.targets.get(column, settings.targets.get(name, {}))
        if not fields and name not in TARGETS and (reason := why_bookkeeping(name, texts)):
            problems.append(Problem("bookkeeping", "column left out", reason, column=column))
            continue
        if decimal and may_be_thousands(texts):
            reason = (
                "other columns have decimal commas, and its points may separate thousands: write "
                "its numbers without them, or with commas"
            )
            problems.append(not_a_target(column, reason))
            continue
        texts = with_points(texts, separator == ";" if decimal is None else decimal)
        spec = find_spec(column, texts, fields)
        if isinstance(spec, str):
            problems.append(not_a_target(column, spec))
            continue
        same = [other.column for other in found if other.spec.name == spec.name]
        if same:
            raise DatasetSourceError(
                f"labels.csv has two columns for the target '{spec.name}', '{same[0]}' and "
                f"'{column}': rename one, or name it in 'ignore' of targets.toml"
            )
        labels, wrong = parse_column(column, spec, texts, ids, fields.get("keep_outliers", False))
        problems += wrong
        if len(np.unique(labels[labels >= 0] if spec.classes else labels[~np.isnan(labels)])) < 2:
            message = "no two different labels are left: there is nothing to learn"
            problems.append(not_a_target(column, message))
            continue
        found.append(LabelColumn(column, spec, labels))
    return found, problems


def not_a_target(column: str, reason: str) -> Problem:
    """The problem of a column that is none, against what its name lets expect."""
    return Problem("column not a target", "column left out", reason, column=column)


def find_spec(column: str, texts: Sequence[str], fields: Mapping[str, Any]) -> TargetSpec | str:
    """Specification of a column, or why it is not a target.

    What targets.toml says comes first, then the header and the table of known targets, then what
    the cells look like: numbers are a regression; 0 and 1 alone, and a few texts, are classes.

    Args:
        texts: [n] cells.
        fields: of the column in targets.toml, {} for none.
    """
    name, unit = split_header(column)
    present = [text.strip() for text in texts if not is_missing(text)]
    if not present:
        return "it is empty"
    known = TARGETS.get(name)
    kind = fields.get("kind") or ("classification" if "classes" in fields else None)
    if kind is None and known is not None:
        kind = known.kind
    # A mark of a missing number makes no class, and no regression of 0 and 1.
    different = collections.Counter(text for text in present if number(text) not in SENTINELS)
    if not different:
        return "it holds nothing but marks of missing numbers"
    binary = set(map(number, different)) == {0.0, 1.0}
    if kind is None:
        kind, reason = _guess_kind(different, binary)
        if reason:
            return reason
    if kind == "classification":
        classes = fields.get("classes")
        if classes is None and known is not None and known.classes:
            classes = known.classes
        elif classes is None:
            classes = ("0", "1") if binary else sorted(different, key=_class_order)
        base = known if known is not None and known.classes else None
        label = fields.get("label") or (base.label if base else _label(name))
        return TargetSpec(name, "classification", "", label, classes=tuple(classes))
    return _regression(name, fields.get("unit", unit), fields)


def _regression(name: str, unit: str | None, fields: Mapping[str, Any]) -> TargetSpec:
    """Specification of a column of numbers.

    Args:
        unit: that the header or targets.toml states, None for none.
        fields: of the column in targets.toml.
    """
    known = TARGETS.get(name)
    if known is not None and not known.classes:
        spec = known
        if unit is not None and same_unit(unit, known.unit):
            unit = known.unit
        if unit is not None and unit != known.unit:  # the identity holds in the known unit alone
            spec = dataclasses.replace(known, unit=unit, identity=None)
    else:
        spec = TargetSpec(name, "regression", unit or "", _label(name))
    changed = {key: fields[key] for key in ("label", "transform", "minimum") if key in fields}
    if "per" in fields:
        changed["per"] = None if fields["per"] == "none" else fields["per"]
    return dataclasses.replace(spec, **changed)


def _guess_kind(different: Mapping[str, int], binary: bool) -> tuple[str, str]:
    """Kind of a column by its cells, and why it is no target, '' if it is one.

    A column of numbers never becomes classes, however they are written; nor does a mixture.

    Args:
        different: {cell: how often}, without missing ones.
        binary: whether all are 0 or 1.
    """
    rows = sum(different.values())
    meant = sum(times for text, times in different.items() if looks_like_number(text))
    remedy = "in targets.toml, or name it in 'ignore' there"
    if binary:
        return "classification", ""
    if 2 * meant > rows:
        return "regression", ""
    if 10 * meant > rows:
        return "", f"{meant} of its {rows} cells are numbers, others texts: give its kind {remedy}"
    number_of = len(different)
    if number_of > MAX_CLASSES or 2 * number_of > rows:
        return "", f"it has {number_of} different texts in {rows} rows: give its classes {remedy}"
    return "classification", ""


def _class_order(text: str) -> tuple[float, str]:
    """Classes that are numbers in their order, then texts in alphabetical order."""
    value = number(text)
    return (math.inf if value is None else value, text)


def _label(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def parse_column(
    column: str, spec: TargetSpec, texts: Sequence[str], ids: Sequence[str], keep_outliers: bool
) -> tuple[np.ndarray, list[Problem]]:
    """Labels of a column, those that cannot be left out.

    Returns:
        ([n] float32, NaN = none, or int32, -1 = none; what is wrong with those left out).
    """
    dtype, none = (np.int32, -1) if spec.classes else (np.float64, np.nan)
    labels, problems = np.full(len(texts), none, dtype), []

    def wrong(row: int, kind: str, message: str) -> None:
        labels[row] = none
        problems.append(
            Problem(
                kind, "label left out", message, row=row + 2, material_id=ids[row], column=column,
                value=texts[row],
            )
        )

    for row, text in enumerate(texts):
        if is_missing(text):
            continue
        value = _class_index(spec, text.strip()) if spec.classes else number(text)
        labels[row] = none if value is None else value
        if reason := _impossible(column, spec, text, value):
            wrong(row, "impossible label", reason)
    if not spec.classes and not keep_outliers:
        for row in np.flatnonzero(is_mark(labels)):
            wrong(
                int(row), "impossible label",
                f"{labels[row]:g} is far from all other labels, taken for the mark of a missing "
                "one: leave the cell empty or, if it is right, set keep_outliers = true under "
                f"[{spec.name}] in targets.toml",
            )
        for row in np.flatnonzero(exploding(spec, labels)):
            wrong(
                int(row), "exploding label",
                "far beyond all others: mend it or, if it is right, set keep_outliers = true or "
                f"transform = 'log' under [{spec.name}] in targets.toml",
            )
    return labels.astype(np.int32 if spec.classes else np.float32), problems


def _impossible(
    column: str, spec: TargetSpec, text: str, value: float | None
) -> str:
    """Why a cell is no label, '' if it is one."""
    if value is None and spec.classes:
        return f"expected one of {', '.join(spec.classes)}: mend it or leave it empty"
    if value is None and has_unit(text):
        return (
            "expected a number without its unit: put the unit into the header, "
            f"'{column} (UNIT)', and numbers alone below"
        )
    if value is None:
        return "expected a number: mend it or leave it empty"
    if spec.classes:
        return ""
    if not abs(value) <= float(np.finfo(np.float32).max):
        return "expected a finite number: mend it or leave it empty"
    if spec.minimum is not None and value < spec.minimum:
        return (
            f"{spec.label} is at least {spec.minimum:g} {spec.unit}".rstrip()
            + f": mend it, or state another minimum under [{spec.name}] in targets.toml"
        )
    if spec.transform == "log" and value <= 0:
        return (
            "the transform is log, expected a label > 0: mend it, or set transform = 'identity' "
            f"under [{spec.name}] in targets.toml"
        )
    return ""


def is_mark(labels: np.ndarray) -> np.ndarray:
    """[n] bool, labels such as -999 that stand for none: they lie far beyond all others.

    Args:
        labels: [n], NaN = missing.
    """
    known = np.isin(labels, list(SENTINELS))
    for mark in REPEATED_SENTINELS:
        if (same := labels == mark).sum() > 1:
            known |= same
    others = labels[~known & np.isfinite(labels)]
    if not known.any() or len(others) < 2:
        return np.zeros(len(labels), bool)
    low, high = others.min(), others.max()
    margin = high - low
    return known & ((labels < low - margin) | (labels > high + margin))


def exploding(spec: TargetSpec, labels: np.ndarray) -> np.ndarray:
    """[n] bool, labels so far beyond the others that they would set the scale of the target.

    Args:
        labels: [n], NaN = missing.
    """
    if np.isfinite(labels).sum() < EXPLODING_MINIMUM_LABELS:
        return np.zeros(len(labels), bool)
    values = np.log(labels) if spec.transform == "log" else labels
    low, high = np.nanpercentile(values, (5, 95))
    margin = EXPLODING * (high - low)
    if margin == 0:  # nearly all labels are equal
        return np.zeros(len(labels), bool)
    return (values < low - margin) | (values > high + margin)


def _class_index(spec: TargetSpec, text: str) -> int | None:
    if text in spec.classes:
        return spec.classes.index(text)
    lowered = [name.lower() for name in spec.classes]
    if text.lower() in lowered:
        return lowered.index(text.lower())
    if len(spec.classes) == 2:
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        denied = _NEGATION.sub("", text.lower())  # 'non-metal' is the class that is not 'metal'
        if denied != text.lower() and denied in lowered:
            return 1 - lowered.index(denied)
    value = number(text)
    if value is None:
        return None
    for index, name in enumerate(spec.classes):
        if number(name) == value:
            return index
    if value in range(len(spec.classes)) and all(number(name) is None for name in spec.classes):
        return int(value)
    return None
