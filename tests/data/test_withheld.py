from types import SimpleNamespace

import numpy as np
import pytest

from densityjax.data.withheld import as_withheld, like, read_withheld
from densityjax.runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("mp-1\n\n# no\nAl-O\nmp-1\n", ("mp-1", "Al-O")),
        ("Material_ID,formula\nmp-1,Si\nmp-2,Ge\n", ("mp-1", "mp-2")),
        ("chemical_system,material_id\nO-Al,mp-1\n,mp-2\n", ("mp-1", "O-Al", "mp-2")),
        ("\ufeffmaterial_id\n\"a,b\"\n", ("a,b",)),
    ],
)
def test_files_of_names(tmp_path, text, names):
    path = tmp_path / "x"
    path.write_text(text, encoding="utf-8")
    assert read_withheld(path) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [("# all\n", "names no material"), ("mp-1,Si\n", "none of them is called"), (None, "No such")],
)
def test_files_that_name_nothing(tmp_path, text, message):
    path = tmp_path / "x"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_withheld(path)


def test_a_system_is_known_in_any_order_and_an_id_is_no_system():
    withheld = as_withheld(["O-Al", "mp-1", "C"])
    assert withheld.systems == {"Al-O", "C"}
    assert "mp-1" in withheld.ids


@pytest.mark.parametrize("reach", ["system", "formula", "id"])
def test_materials_without_a_name_are_not_like_each_other(reach):
    names = np.array(["", "Al-O", "C"])
    materials = SimpleNamespace(material_id=names, formula=names, chemical_system=names)
    withheld = like(materials, np.array([0, 1]), reach)
    assert withheld.holds(materials).tolist() == [False, True, False]
