import pytest

from densityjax.data.dataset import DatasetError, open_dataset
from tests.data.loading import NAME


def test_unknown_and_absent_datasets_are_named(tmp_path):
    with pytest.raises(
        DatasetError, match=r"config\.data\.name: unknown dataset 'qm9'"
    ):
        open_dataset("qm9/grid24", str(tmp_path), build=True)
    message = f"is not in config.data.data_dir='{tmp_path}'; build it with 'python -m tfds_"
    with pytest.raises(DatasetError, match=message):
        open_dataset(NAME, str(tmp_path), build=False)
