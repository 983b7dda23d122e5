"""When there is a composition, and when the start is taken; what is said of it."""

import numpy as np
import pytest

from densityjax.configs import elastic
from densityjax.modules.composition import Composition, find_composition, to_json
from densityjax.modules.output import draw, table


def _find(rows: int, systems: int = 99):
    draws = np.random.default_rng(0)
    hidden = draws.normal(size=(rows, 4))
    labels = hidden[:, :1]
    labels = (labels - labels.mean()) / labels.std()
    embeddings = np.stack([hidden[:, [0, 0]] + [0, 1], hidden[:, 1:3], hidden[:, 2:]])
    names = (np.arange(rows) % systems).astype(str)
    return find_composition(
        "c44", ["a", "b", "c"], embeddings, labels, names, elastic.get_config().modules, 0
    )


def test_the_module_that_knows_gets_the_weight(tmp_path):
    found = _find(40)
    assert found.reason == ""
    assert found.weights[0] > 0.8
    content = to_json(found)
    assert list(content["modules"]["a"]) == [
        "weight", "low", "high", "fitted", "neighbours", "kernel_ridge"
    ]
    lines = table(content).splitlines()
    assert lines[2].startswith("a ")
    assert len({line.index("0.") for line in lines[2:4]}) == 1  # aligned
    assert draw(content).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rows": 9}, "9 labels are fewer than config.modules.min_labels=10"),
        ({"rows": 12, "systems": 2}, "fewer than three chemical systems"),
    ],
)
def test_the_start_is_taken(changes, reason):
    found = _find(**changes)
    assert reason in found.reason
    _says_so(found)


def test_the_start_is_taken_where_every_proxy_is_worse_than_the_mean():
    """On a circle each row lies between two of the opposite label."""
    angle = np.arange(24) * 2 * np.pi / 24
    embedding = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    labels = (-1.0) ** np.arange(24)[:, None]
    found = find_composition(
        "c44", ["a"], embedding[None], labels, np.arange(24).astype(str),
        elastic.get_config().modules, 0,
    )
    assert found.proxies["neighbours"].errors[0] > found.mean_error
    assert found.reason == "every proxy is worse than the mean of the labels"
    _says_so(found)


def _says_so(found: Composition) -> None:
    assert found.weights is None
    content = to_json(found)
    assert f"The start is taken as it is: {found.reason}." in table(content)
