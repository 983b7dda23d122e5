import pytest

from densityjax.data.dataset import open_dataset
from tests.data.loading import NAME, load


@pytest.fixture(scope="module")
def builder(small_dataset):
    return open_dataset(NAME, str(small_dataset), build=False)


@pytest.fixture(scope="module")
def records(builder):
    return load(builder)
