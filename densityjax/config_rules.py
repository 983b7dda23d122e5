"""What a value of a config must be: rules, each with the words of its error message."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ase.data import chemical_symbols
from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a value must be.

    Attributes:
        text: completes "it must be ...".
        holds: whether a value is that.
    """

    text: str
    holds: Callable[[Any], bool]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def one_of(*values: Any) -> Rule:
    """One of these values."""
    text = "one of " + ", ".join(map(repr, values))
    return Rule(text, lambda value: any(value == v and type(value) is type(v) for v in values))


def each(rule: Rule, at_least: int = 0) -> Rule:
    """A tuple or list whose members keep a rule."""
    some = f"{at_least} or more, " if at_least else "any number, "
    return Rule(
        f"a tuple ({some}each {rule.text})",
        lambda value: _is_list(value) and len(value) >= at_least and all(map(rule.holds, value)),
    )


def values_of(rule: Rule) -> Rule:
    """A section with free keys whose values keep a rule."""
    return Rule(
        f"a section whose values are each {rule.text}",
        lambda value: isinstance(value, Mapping | ConfigDict)
        and all(map(rule.holds, value.values())),
    )


def up_to(high: int) -> Rule:
    """A whole number from 1 to `high`."""
    return Rule(
        f"a whole number from 1 to {high}", lambda value: _is_whole(value) and 1 <= value <= high
    )


def at_least(low: int) -> Rule:
    """A whole number of `low` or more."""
    return Rule(
        f"a whole number of at least {low}", lambda value: _is_whole(value) and value >= low
    )


def from_to(low: float, high: float) -> Rule:
    """A number from `low` to `high`, both included."""
    return Rule(
        f"a number from {low} to {high}", lambda value: _is_number(value) and low <= value <= high
    )


boolean = Rule("True or False", lambda value: isinstance(value, bool))
whole = at_least(0)
positive_whole = at_least(1)
positive = Rule("a number above 0", lambda value: _is_number(value) and value > 0)
not_negative = Rule("a number of at least 0", lambda value: _is_number(value) and value >= 0)
under_one = Rule(
    "a number from 0 to under 1", lambda value: _is_number(value) and 0 <= value < 1
)
between_0_and_1 = Rule(
    "a number above 0, below 1", lambda value: _is_number(value) and 0 < value < 1
)
fraction = Rule(
    "a number above 0, at most 1", lambda value: _is_number(value) and 0 < value <= 1
)
text = Rule("a text", lambda value: isinstance(value, str))
some_text = Rule("a text that is not empty", lambda value: isinstance(value, str) and value != "")
element = Rule("the symbol of an element", frozenset(chemical_symbols[1:]).__contains__)
