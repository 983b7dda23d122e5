import json
import os

import numpy as np
import pytest
from pymatgen.io.vasp.outputs import Chgcar

from densityjax.density.reader import DensityFormatError, read_density_bytes
from tests.density.test_vasp import density  # noqa: F401  a fixture

NAMES = {0: (), 1: ("diff",), 3: ("diff_x", "diff_y", "diff_z")}


def document(density, spins=0, indent=None):  # noqa: F811
    """What pymatgen writes of its Chgcar."""
    structure, total, diff = density
    chgcar = Chgcar(
        structure, {"total": total} | dict(zip(NAMES[spins], diff)),
        data_aug={"total": {"1": np.array([0.1, 0.2])}},
    )
    return json.dumps(json.loads(chgcar.to_json()), indent=indent)


@pytest.mark.parametrize("spins", [0, 1, 3])
@pytest.mark.parametrize("wrap", ["{}", '{{"data": {}, "task_id": "mp-1"}}', "[{}]"])
@pytest.mark.parametrize("indent", [None, 1])
def test_what_pymatgen_writes(density, spins, wrap, indent):  # noqa: F811
    structure, total, diff = density
    text = wrap.format(document(density, spins, indent))
    found = read_density_bytes(text.encode(), "mp-1.json")
    np.testing.assert_allclose(found.values * structure.volume, total, rtol=1e-12)
    np.testing.assert_allclose(found.lattice, structure.lattice.matrix, atol=1e-12)
    np.testing.assert_allclose(found.positions, structure.frac_coords, atol=1e-12)
    assert found.species.tolist() == [26, 8, 8]
    assert (found.code, found.charge) == ("VASP", 0.0)
    if not spins:
        assert found.magnetization is None
        return
    expected = diff[0] if spins == 1 else np.sqrt(sum(m**2 for m in diff))
    np.testing.assert_allclose(found.magnetization * structure.volume, expected, rtol=1e-9)


def test_large_arrays_are_read_in_pieces(density, monkeypatch):  # noqa: F811
    from densityjax.density.formats import chgcar_json

    monkeypatch.setattr(chgcar_json, "_CHUNK", 100)
    found = read_density_bytes(document(density).encode(), "x")
    np.testing.assert_allclose(found.values * density[0].volume, density[1], rtol=1e-12)


def test_charge_is_kept(density):  # noqa: F811
    text = edited(density, lambda c: _structure(c).update(charge=0.5))
    assert read_density_bytes(text.encode(), "x").charge == 0.5


def test_no_class_is_decoded(density, tmp_path):  # noqa: F811
    """A class named in the file, which MontyDecoder would make, is left alone."""
    chgcar = json.loads(document(density))
    target = tmp_path / "made"
    evil = {"@module": "os", "@class": "mkdir", "@callable": "mkdir", "path": str(target)}
    chgcar |= {"@module": "os", "@class": "system", "evil": evil}
    chgcar["poscar"]["@class"] = "no_such_class"
    read_density_bytes(json.dumps(chgcar).encode(), "x")
    assert not os.path.exists(target)


def edited(density, change):  # noqa: F811
    chgcar = json.loads(document(density, 1))
    change(chgcar)
    return json.dumps(chgcar)


def _structure(chgcar):
    return chgcar["poscar"]["structure"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("data"), "expected pymatgen's Chgcar as JSON"),
        (lambda c: c["data"].pop("total"), "data 'total': expected lists [X][Y][Z] of numbers"),
        (lambda c: c["data"].update(total="x"), "data 'total': expected lists"),
        (lambda c: c["data"]["total"]["data"][1][2].pop(), "lists [X][Y][Z] of equal lengths"),
        (lambda c: c["data"]["total"]["data"].pop(), "data 'diff' has shape"),
        (lambda c: c["data"]["total"]["data"][1][2].__setitem__(3, None), "after 45 found 'null"),
        (lambda c: c["data"]["total"]["data"][1][2].__setitem__(3, "7"), "found '\"7\""),
        (lambda c: _structure(c).pop("lattice"), "pymatgen's Structure"),
        (lambda c: _structure(c).update(sites=[]), "and atoms"),
        (lambda c: _structure(c)["sites"][0].update(abc=[0, 0]), "pymatgen's Structure"),
        (lambda c: _structure(c)["sites"][0]["species"][0].update(occu=0.5), "not one whole atom"),
        (lambda c: _structure(c)["sites"][0]["species"][0].update(element="Zz"), "Structure"),
        (lambda c: _structure(c).update(charge="much"), "pymatgen's Structure"),
    ],
)
def test_a_bad_document_is_named_with_what_was_expected(density, change, message):  # noqa: F811
    with pytest.raises(DensityFormatError) as error:
        read_density_bytes(edited(density, change).encode(), "bad.json")
    assert str(error.value).startswith("bad.json")
    assert message in str(error.value)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_cut_documents(density, share):  # noqa: F811
    text = document(density, 1)
    with pytest.raises(DensityFormatError, match=r"bad\.json: .*(complete JSON|cut short)"):
        read_density_bytes(text[: int(share * len(text))].encode(), "bad.json")


def test_a_skeleton_beyond_the_limit_is_refused(density, monkeypatch):  # noqa: F811
    from densityjax.density.formats import chgcar_json

    monkeypatch.setattr(chgcar_json, "MAX_SKELETON", 100)
    with pytest.raises(DensityFormatError, match="at most 100 bytes of JSON beside the grids"):
        read_density_bytes(document(density).encode(), "x")


def test_deep_nesting_is_refused():
    with pytest.raises(DensityFormatError, match="complete JSON document"):
        read_density_bytes(b'{"a":' * 100_000, "x")
