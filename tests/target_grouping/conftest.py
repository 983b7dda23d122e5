"""A small dataset, built once."""

from pathlib import Path

import pytest

from tests.target_grouping.small_groups import build


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("data"))
