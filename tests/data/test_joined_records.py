import numpy as np
import pytest

from densityjax.data.joined_records import join_records, taken
from tests.data.loading import load


@pytest.mark.parametrize("cached", [True, False])
def test_joined_records_are_their_parts(builder, cached):
    options = {"cache_in_memory": cached, "features": True}
    parts = [load(builder, [fold], **options) for fold in ("fold4", "fold2")]
    order = np.array([3, 0, 5])
    parts[0] = taken(parts[0], order)
    joined = join_records(parts)
    assert len(joined) == 9
    assert len(set(joined.index.tolist())) == 9
    assert joined.labels == {}
    for row in range(9):
        part, place = (parts[0], row) if row < 3 else (parts[1], row - 3)
        assert joined.material_id[row] == part.material_id[place]
        np.testing.assert_array_equal(joined.density(row), part.density(place))
        np.testing.assert_array_equal(joined.species[row], part.species[place])
        for name, values in part.features.items():
            np.testing.assert_array_equal(joined.features[name][row], values[place])
    whole = load(builder, ["fold4"], **options)
    assert parts[0].material_id.tolist() == whole.material_id[order].tolist()


def test_parts_of_different_kinds(builder):
    parts = [load(builder, ["fold2"], channels=channels) for channels in (1, 2)]
    with pytest.raises(ValueError, match="different kinds"):
        join_records(parts)
