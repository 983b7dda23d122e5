"""The Materials Project from its API's documents and its bucket to records, without a network.

The bucket is a local S3 server (moto) behind a proxy that injects faults; what it holds are real
densities of elastic_densities as pymatgen's Chgcar in JSON. Documents have the fields and types of
the models of emmet-core 0.87.3 (summary, vasp.material, tasks, elasticity, thermo,
electronic_structure, phonon), as mp-api 0.46.5 returns them with use_document_model=False.
"""

import copy
import csv
import gzip
import json
import lzma
import sys
import tarfile
import types
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Structure

import tfds_builders
from densityjax.configs import paper_magnetic, paper_nonmagnetic, paper_stability
from densityjax.density.reader import read_density_bytes
from densityjax.targets import get_specs
from tests.fault_proxy import FaultProxy
from tests.tfds_builders.test_elastic_densities import SHIPPED
from tfds_builders.errors import DatasetSourceError
from tfds_builders.folds import fold_of
from tfds_builders.materials_project import download as download_module
from tfds_builders.materials_project import manifest as manifest_module
from tfds_builders.materials_project.api import Api
from tfds_builders.materials_project.bucket import NAME, Bucket, BucketError
from tfds_builders.materials_project.download import download
from tfds_builders.materials_project.entries import read_manifest, write_manifest
from tfds_builders.materials_project.manifest import make_manifest
from tfds_builders.materials_project.rules import bandwidth, lowest_frequency

boto3 = pytest.importorskip("boto3")
moto_server = pytest.importorskip("moto.server")


def chgcar_json(text: bytes, wrapped: bool) -> tuple[bytes, dict]:
    """What the bucket holds of a density, and its structure as a dict."""
    density = read_density_bytes(text, "CHGCAR")
    structure = Structure(density.lattice, density.species, density.positions).as_dict()
    data = {"total": density.values * density.volume}  # [X, Y, Z] rho * V, as VASP has it
    if density.magnetization is not None:
        data["diff"] = density.magnetization * density.volume
    poscar = {
        "@module": "pymatgen.io.vasp.inputs", "@class": "Poscar", "structure": structure,
        "true_names": True, "selective_dynamics": None, "velocities": None, "comment": "",
        "predictor_corrector": None,
    }
    chgcar = {
        "@module": "pymatgen.io.vasp.outputs", "@class": "Chgcar", "poscar": poscar,
        "data": {
            name: {
                "@module": "numpy", "@class": "array", "dtype": "float64", "data": field.tolist(),
            }
            for name, field in data.items()
        },
        "data_aug": {},
    }
    document = {"task_id": "mp-0", "data": chgcar} if wrapped else chgcar
    return gzip.compress(json.dumps(document).encode(), 1, mtime=0), structure


@pytest.fixture(scope="module")
def materials() -> dict[str, dict]:
    """Ten small real materials, three of them magnetic: row of labels, structure and object."""
    with tarfile.open(SHIPPED) as archive:
        rows = list(csv.DictReader(archive.extractfile("labels.csv").read().decode().splitlines()))
        rows.sort(key=lambda row: archive.getmember(row["file"]).size)
        plain = [row for row in rows if float(row["magnetic_moment"]) < 0.01][:7]
        spin = [row for row in rows if float(row["magnetic_moment"]) > 0.5][:3]
        found = {}
        for number, row in enumerate(plain + spin):
            text = lzma.decompress(archive.extractfile(row["file"]).read())
            data, structure = chgcar_json(text, wrapped=number % 2 == 0)
            shape = read_density_bytes(text, "").values.shape
            found[row["material_id"]] = {
                "row": row, "structure": structure, "object": data, "shape": shape,
                "task": f"mp-{190_000 + number}",
            }
    return found


class ClientError(Exception):
    """As mp-api's MPRestError, which is an Exception and nothing else."""


class Rester:
    """Finds documents as an mp-api rester does, and returns only the fields asked for."""

    def __init__(self, documents: list[dict]):
        self.documents = documents

    def search(self, *, fields, all_fields, material_ids=None, task_ids=None, **query):
        assert not all_fields
        assert len(task_ids or ()) <= 100
        fields = {field.partition(".")[0] for field in fields}
        for document in self.documents:
            if material_ids is not None and document["material_id"] not in material_ids:
                continue
            if task_ids is not None and document["task_id"] not in task_ids:
                continue
            if "thermo_types" in query and document["thermo_type"] not in query["thermo_types"]:
                continue
            has = document.get("has_props", {})
            if not all(has.get(name) for name in query.get("has_props", ())):
                continue
            yield copy.deepcopy({k: v for k, v in document.items() if k in fields})


class BandStructures(Rester):
    """Of electrons and of phonons; those that are not there are the client's error."""

    def get_bandstructure_from_task_id(self, task_id, run_type, path_type):
        assert path_type == "setyawan_curtarolo"
        for document in self.documents:
            if document["task_id"] == task_id and document["run_type"] == run_type:
                return document["bands"]
        raise ClientError(f"No bandstructure data found for {task_id=}")

    def get_bandstructure_from_phonon_id(self, identifier, phonon_method):
        for document in self.documents:
            if (document["identifier"], document["phonon_method"]) == (identifier, phonon_method):
                return document["bands"]
        raise ClientError(f"No phonon bandstructure data found for {identifier=}")


def electron_bands(gap: float) -> types.SimpleNamespace:
    """As pymatgen's BandStructure: two bands of 3 eV below 0, a core 10 eV below, one above."""
    k = np.linspace(0, np.pi, 80)
    occupied = [-1.5 + 1.5 * np.cos(k), -1.5 - 1.5 * np.cos(k), np.full(80, -13.0)]
    bands = np.array([*occupied, gap + 1 - np.cos(k)])  # [bands, k] eV
    return types.SimpleNamespace(
        bands={1: bands, -1: bands}, efermi=0.0, is_metal=lambda: gap == 0,
        get_vbm=lambda: {"energy": 0.0},
    )


@pytest.fixture
def client(materials) -> types.SimpleNamespace:
    """An API that knows these materials; tests may change its documents."""
    resters = {name: [] for name in ("summary", "core", "tasks", "elasticity", "thermo")}
    resters |= {"electronic_structure": [], "bands": [], "phonons": []}
    for material_id, material in materials.items():
        row, task = material["row"], material["task"]
        moment, volume = float(row["magnetic_moment"]), float(row["volume"])
        common = {"material_id": material_id}
        resters["summary"].append(common | {
            "is_magnetic": moment > 0.5, "ordering": "FM" if moment > 0.5 else "NM",
            "has_props": {
                "elasticity": True, "magnetism": True, "phonon": True, "charge_density": True,
            },
            "phonon_IDs": {"dfpt": [f"{task}9"], "pheasy": [f"{task}8"]},
        })
        older, relaxation, hubbard = f"{task}1", f"{task}2", f"{task}3"
        resters["core"].append(common | {
            "calc_types": {
                relaxation: "GGA Structure Optimization", older: "GGA Static",
                hubbard: "GGA+U Static", task: "GGA Static",
            },
            "deprecated_tasks": [],
        })
        x, y, z = material["shape"]
        for task_id, day in ((task, 9), (older, 1), (hubbard, 20), (relaxation, 5)):
            resters["tasks"].append({
                "task_id": task_id, "last_updated": f"2021-02-{day:02}T00:00:00",
                "run_type": "GGA+U" if task_id == hubbard else "GGA",
                "structure": material["structure"],
                "output": {
                    "energy": float(row["total_energy"]) + day, "mag_density": moment / volume,
                    "bandgap": float(row["band_gap"]), "efermi": float(row["fermi_energy"]),
                },
                "input": {"parameters": json.dumps({
                    "NELECT": float(row["num_electrons"]), "NGXF": x, "NGYF": y, "NGZF": z,
                })},
            })
        bulk, shear = float(row["bulk_modulus"]), float(row["shear_modulus"])
        resters["elasticity"].append(common | {
            "state": "successful", "order": 2,
            "bulk_modulus": {"voigt": bulk + 1, "reuss": bulk - 1, "vrh": bulk},
            "shear_modulus": {"voigt": shear, "reuss": shear, "vrh": shear},
            "fitting_data": {"optimization_task": relaxation, "deformation_tasks": [older]},
        })
        energies = {"energy_per_atom": -3.0, "uncorrected_energy_per_atom": -2.5}
        formation = float(row["formation_energy_per_atom"])
        for thermo_type, energy_type, shift in (
            ("GGA_GGA+U", "GGA", 0), ("GGA_GGA+U_R2SCAN", "r2SCAN", 1), ("R2SCAN", "r2SCAN", 2),
        ):
            resters["thermo"].append(common | energies | {
                "thermo_type": thermo_type, "energy_type": energy_type,
                "formation_energy_per_atom": formation + shift,
            })
        resters["electronic_structure"].append(common | {
            "bandstructure": {"setyawan_curtarolo": {"task_id": f"{task}4"}, "hinuma": None},
        })
        bands = electron_bands(float(row["band_gap"]))
        resters["bands"].append({"task_id": f"{task}4", "run_type": "GGA", "bands": bands})
        frequencies = np.full((6, 4), 3.0)  # [branches, q] THz
        frequencies[:3, 0] = -0.4  # acoustic at Gamma: only error
        resters["phonons"].append({
            "identifier": f"{task}9", "phonon_method": "dfpt",
            "bands": {
                "frequencies": frequencies.tolist(),
                "qpoints": [[0, 0, 0], [0.25, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0]],
            },
        })
    bands, phonons = BandStructures(resters.pop("bands")), BandStructures(resters.pop("phonons"))
    core = Rester(resters.pop("core"))
    found = {name: Rester(documents) for name, documents in resters.items()}
    return types.SimpleNamespace(
        db_version="2025.09.25",
        materials=types.SimpleNamespace(
            search=core.search, core=core, phonon=phonons,
            electronic_structure_bandstructure=bands, **found,
        ),
    )


@pytest.fixture(scope="module")
def moto():
    """A local S3 server with the bucket, empty; gives its port and a client that may write."""
    server = moto_server.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    port = server._server.server_port
    writer = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )
    writer.create_bucket(Bucket=NAME, ACL="public-read")
    yield port, writer
    server.stop()


@pytest.fixture(scope="module")
def put(moto):
    def put(key: str, data: bytes) -> None:
        moto[1].put_object(Bucket=NAME, Key=key, Body=data, ACL="public-read")

    return put


@pytest.fixture
def proxy(moto, put, materials):
    """The server with all densities, and a proxy in front of it."""
    for material in materials.values():
        put(key_of(material["task"]), material["object"])
    with FaultProxy.in_front_of(moto[0]) as proxy:
        yield proxy


def key_of(task_id: str) -> str:
    return f"chgcars/{task_id}.json.gz"


def as_api(client: types.SimpleNamespace) -> Api:
    return Api(client, (ClientError,), pause=0.01)


def open_bucket(proxy: FaultProxy, **kwargs) -> Bucket:
    return Bucket(endpoint_url=proxy.url, **{"pause": 0.01, "timeout": 0.6, **kwargs})


@pytest.fixture
def folder(client, proxy, tmp_path) -> Path:
    """A folder with the manifest of the nonmagnetic materials and no densities."""
    manifest, _ = make_manifest(as_api(client), open_bucket(proxy), "nonmagnetic", threads=4)
    write_manifest(manifest, tmp_path / "mp")
    proxy.requests.clear()
    return tmp_path / "mp"


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def path_of(entry) -> str:
    return f"/{NAME}/{entry.key}"


def test_manifest_pins_ids_and_labels(client, proxy, materials, tmp_path):
    manifest, left_out = make_manifest(as_api(client), open_bucket(proxy), "nonmagnetic", threads=4)
    written = write_manifest(manifest, tmp_path)
    assert read_manifest(tmp_path) == written
    assert manifest.header["database_version"] == "2025.09.25"
    assert manifest.header["run_type"] == "GGA"
    plain = {m for m, x in materials.items() if float(x["row"]["magnetic_moment"]) < 0.5}
    assert {entry.material_id for entry in manifest.entries} == plain
    assert left_out == []
    for entry in manifest.entries:
        material, row = materials[entry.material_id], materials[entry.material_id]["row"]
        assert entry.task_id == material["task"] != entry.material_id
        assert (entry.run_type, entry.grid) == ("GGA", material["shape"])
        assert (entry.size, entry.key) == (len(material["object"]), key_of(entry.task_id))
        assert (entry.formula, entry.chemical_system) == (row["formula"], row["chemical_system"])
        assert entry.fold == fold_of(row["chemical_system"])
        assert entry.labels["total_energy"] == pytest.approx(float(row["total_energy"]) + 9)
        same = ("bulk_modulus", "formation_energy_per_atom", "band_gap", "fermi_energy")
        for name in same:
            assert entry.labels[name] == float(row[name])
        assert entry.labels["volume"] == pytest.approx(float(row["volume"]), rel=1e-4)
        assert entry.labels["density"] == pytest.approx(float(row["density"]), rel=1e-3)
        assert entry.labels["bandwidth"] == pytest.approx(3.0, abs=0.01)
        assert entry.origins["energy_correction_per_atom"] == -0.5
        assert entry.origins["static_tasks"] == 2
        assert entry.origins["last_updated"] == "2021-02-09T00:00:00"


def test_manifest_of_the_other_datasets(client, proxy, materials):
    unstable, soft = (document["bands"] for document in client.materials.phonon.documents[:2])
    unstable["frequencies"][0][2] = -0.2
    soft["frequencies"][0][2] = -0.05  # within the error of such a calculation
    client.materials.summary.documents[2]["phonon_IDs"] = {"pheasy": ["mp-5"]}
    manifest, left_out = make_manifest(as_api(client), open_bucket(proxy), "stability", threads=4)
    by_id = {entry.material_id: entry for entry in manifest.entries}
    ids = list(materials)
    assert [by_id[i].labels["is_stable"] for i in ids[:2]] == [0, 1]
    assert by_id[ids[0]].origins["lowest_frequency_THz"] == -0.2
    assert set(by_id) == set(ids) - {ids[2]}
    assert [(row.material_id, row.what) for row in left_out] == [
        (ids[2], "is_stable"), (ids[2], "entry"),
    ]
    assert "pheasy" in left_out[0].reason

    manifest, left_out = make_manifest(as_api(client), open_bucket(proxy), "magnetic", threads=4)
    assert len(manifest.entries) == 3
    assert left_out == []
    for entry in manifest.entries:
        expected = float(materials[entry.material_id]["row"]["magnetic_moment"])
        assert entry.labels["magnetic_moment"] == pytest.approx(expected, rel=1e-3)

    # Densities alone: every one that is there, with spin or without, whatever labels there are.
    client.materials.elasticity.documents.clear()
    client.materials.thermo.documents.clear()
    manifest, left_out = make_manifest(as_api(client), open_bucket(proxy), "densities", threads=4)
    assert {entry.material_id for entry in manifest.entries} == set(ids)
    assert all(set(entry.labels) == {"volume", "density"} for entry in manifest.entries)
    assert left_out == []


RULES = [
    ("elasticity", {"state": "failed"}, "bulk_modulus", "the elastic fit is failed"),
    (
        "elasticity", {"bulk_modulus": {"voigt": -3, "reuss": -5, "vrh": -4}},
        "bulk_modulus", "K_VRH of -4",
    ),
    (
        "elasticity", {"bulk_modulus": {"voigt": 4000, "reuss": 2000, "vrh": 3000}},
        "bulk_modulus", "K_VRH of 3000",
    ),
    (
        "elasticity", {"bulk_modulus": {"voigt": 90, "reuss": -10, "vrh": 40}},
        "bulk_modulus", "0 < Reuss",
    ),
    (
        "elasticity", {"bulk_modulus": {"voigt": 50, "reuss": 40, "vrh": 90}},
        "bulk_modulus", "Hill their mean",
    ),
    ("elasticity", {"shear_modulus": {"vrh": -1.0}}, "bulk_modulus", "G_VRH of -1"),
    ("elasticity", {"bulk_modulus": None}, "bulk_modulus", "no finite 'voigt'"),
    (
        "elasticity", {"fitting_data": {"optimization_task": "mp-1900003"}},
        "bulk_modulus", "run type GGA+U, not GGA",
    ),
    ("elasticity", {"fitting_data": None}, "bulk_modulus", "run type unknown"),
    ("thermo", {"energy_type": "GGA+U"}, "formation_energy_per_atom", "run type GGA+U"),
    ("thermo", {"thermo_type": "R2SCAN"}, "formation_energy_per_atom", "no thermo document"),
    ("electronic_structure", {"bandstructure": None}, "bandwidth", "no band structure"),
    (
        "electronic_structure_bandstructure", {"run_type": "GGA+U"},
        "bandwidth", "No bandstructure data",
    ),
    ("tasks", {"output": {"energy": -1.0, "efermi": None, "bandgap": 0.0}}, "fermi_energy", "None"),
    ("tasks", {"output": {"energy": float("nan")}}, "total_energy", "nan"),
]


@pytest.mark.parametrize(("rester", "change", "target", "reason"), RULES)
def test_labels_that_the_rules_do_not_admit(client, proxy, rester, change, target, reason):
    """Each is missing and listed; without a bulk modulus the entry is left out, and listed."""
    material_id = client.materials.summary.documents[0]["material_id"]
    getattr(client.materials, rester).documents[0].update(change)
    manifest, left_out = make_manifest(
        as_api(client), open_bucket(proxy), "nonmagnetic", material_ids=[material_id]
    )
    (row,) = [row for row in left_out if row.what == target]
    assert row.material_id == material_id
    assert reason in row.reason
    if target == "bulk_modulus":
        assert manifest.entries == []
        assert [row.what for row in left_out] == ["bulk_modulus", "entry"]
    else:
        assert target not in manifest.entries[0].labels
        assert "bulk_modulus" in manifest.entries[0].labels


def test_task_of_another_run_type_never_stands_in(client, proxy, moto, put):
    """A missing key falls back to the next task of the same run type, and to nothing else."""
    first, second, third = client.materials.summary.documents[:3]
    core = client.materials.core.documents
    newest = [list(document["calc_types"])[-1] for document in core[:3]]
    moto[1].delete_object(Bucket=NAME, Key=key_of(newest[0]))
    put(key_of(f"{newest[0]}1"), b"an older one")
    moto[1].delete_object(Bucket=NAME, Key=key_of(newest[1]))
    put(key_of(f"{newest[1]}3"), b"one with U")
    core[2]["calc_types"] = {f"{newest[2]}3": "GGA+U Static"}
    ids = [document["material_id"] for document in (first, second, third)]
    manifest, left_out = make_manifest(
        as_api(client), open_bucket(proxy), "nonmagnetic", material_ids=[*ids, "mp-404"]
    )
    (entry,) = manifest.entries
    assert (entry.material_id, entry.task_id) == (ids[0], f"{newest[0]}1")
    # Labels are those of the task whose density is used, not of the newest.
    energy = next(t for t in client.materials.tasks.documents if t["task_id"] == entry.task_id)
    assert entry.labels["total_energy"] == energy["output"]["energy"]
    listed = {(row.material_id, row.task_id, row.what) for row in left_out}
    assert listed == {
        (ids[0], newest[0], "task"), (ids[0], f"{newest[0]}1", "task"),
        (ids[1], newest[1], "task"), (ids[1], f"{newest[1]}1", "task"), (ids[1], "", "entry"),
        (ids[2], "", "entry"), ("mp-404", "", "entry"),
    }


def test_latest_task_is_chosen_whatever_the_order(client, proxy):
    def chosen() -> list[str]:
        manifest, _ = make_manifest(as_api(client), open_bucket(proxy), "nonmagnetic", threads=4)
        return [entry.task_id for entry in manifest.entries]

    for document in client.materials.tasks.documents:
        document["last_updated"] = "2021-02-01T00:00:00"  # all the same
    expected = chosen()
    client.materials.tasks.documents.reverse()
    for document in client.materials.core.documents:
        document["calc_types"] = dict(reversed(document["calc_types"].items()))
    assert chosen() == expected


def test_of_tasks_of_one_day_the_highest_number_is_chosen(client, proxy, put):
    """Not the text that sorts last."""
    core, tasks = client.materials.core.documents[0], client.materials.tasks.documents
    first = next(task for task in tasks if task["task_id"] in core["calc_types"])
    for task_id in ("mp-999", "mp-1000"):
        core["calc_types"][task_id] = "GGA Static"
        tasks.append(first | {"task_id": task_id, "last_updated": "2022-01-01T00:00:00"})
        put(key_of(task_id), b"a density")
    manifest, _ = make_manifest(
        as_api(client), open_bucket(proxy), "nonmagnetic", material_ids=[core["material_id"]]
    )
    assert manifest.entries[0].task_id == "mp-1000"


def test_band_structures_that_cannot_be_read_are_labels_that_are_missing(client, proxy):
    """One document of another form is that entry's problem."""
    material_id = client.materials.summary.documents[0]["material_id"]
    client.materials.phonon.documents[0]["bands"] = {"frequencies": [[1.0]]}
    manifest, left_out = make_manifest(
        as_api(client), open_bucket(proxy), "stability", material_ids=[material_id]
    )
    assert manifest.entries == []
    assert "KeyError: 'qpoints'" in left_out[0].reason


@pytest.mark.parametrize("text", ["Si", "mp-", "", "mp 149", "mp-14a9", "-149"])
def test_texts_that_are_no_ids(client, proxy, text):
    with pytest.raises(DatasetSourceError, match="is no id of the Materials Project's"):
        make_manifest(as_api(client), open_bucket(proxy), "nonmagnetic", material_ids=[text])


def test_manifest_that_mixes_run_types_is_refused(folder):
    path = folder / "manifest.jsonl"
    lines = path.read_text().splitlines()
    lines[3] = lines[3].replace('"run_type": "GGA"', '"run_type": "GGA+U"')
    path.write_text("\n".join(lines))
    with pytest.raises(DatasetSourceError, match=r"line 4: .*run type GGA\+U among GGA"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "key",
    [
        "/root/.profile", "/chgcars/mp-1.json.gz", "../../home/.profile",
        "chgcars/../../mp-1.json.gz", "chgcars/../mp-1.json.gz", "chgcars/a/mp-1.json.gz",
        "chgcars\\mp-1.json.gz", "chgcars/..\\mp-1.json.gz", "chgcars/mp-1.json.gz\0",
        "chgcars/mp\0-1.json.gz", "chgcars/mp-1.json.gz\n", "chgcars/.json.gz", "chgcars/..json.gz",
        "~/mp-1.json.gz", "chgcars/mp-1.sh", "other/mp-1.json.gz", "", None, 5, ["chgcars"],
    ],
)
def test_a_strangers_key_is_no_path_out_of_the_folder(folder, proxy, key):
    path = folder / "manifest.jsonl"
    lines = path.read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | {"key": key})
    path.write_text("\n".join(lines))
    with pytest.raises(DatasetSourceError, match=r"manifest\.jsonl: line 3: ") as error:
        download(folder, open_bucket(proxy), threads=2)
    assert not isinstance(key, str) or repr(key) in str(error.value)
    assert proxy.requests == []
    assert {p.name for p in folder.rglob("*")} == {"manifest.jsonl"}


def test_a_link_out_of_the_folder_is_refused(folder, proxy, tmp_path):
    entries = read_manifest(folder).entries
    outside = tmp_path / "outside"
    outside.mkdir()
    for link in (folder / "chgcars", folder / entries[1].key):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(outside)
        with pytest.raises(DatasetSourceError, match=r"line \d: .*is a link out of the folder"):
            download(folder, open_bucket(proxy), threads=2)
        link.unlink()
    # What an interrupted run would have left, as a link: never written through.
    part = folder / f"{entries[0].key}.{entries[0].etag}.part"
    part.symlink_to(outside / "profile")
    results = download(folder, open_bucket(proxy), threads=2)
    assert {result.status for result in results} == {"fetched"}
    assert list(outside.iterdir()) == []
    # A folder that is itself a link, and links within it, are the user's own affair.
    (tmp_path / "link").symlink_to(folder)
    assert len(read_manifest(tmp_path / "link").entries) == len(entries)


@pytest.mark.parametrize(
    ("line", "changes", "message"),
    [
        (1, {"bucket": "../x"}, "bucket"),
        (1, {"bucket": "a..b"}, "bucket"),
        (1, {"bucket": "Upper"}, "bucket"),
        (1, {"bucket": "x/y?z"}, "bucket"),
        (2, {"size": "9"}, "size"),
        (2, {"size": -1}, "size"),
        (2, {"fold": 10**11}, "fold"),
        (2, {"etag": None}, "etag"),
        (2, {"volume": 0}, "volume"),
        (2, {"volume": "1"}, "volume"),
        (2, {"labels": {"volume": "x"}}, "label"),
        (2, {"labels": None}, "not a manifest"),
        (2, {"extra": 1}, "extra"),
    ],
)
def test_what_a_manifest_cannot_say(folder, line, changes, message):
    path = folder / "manifest.jsonl"
    lines = path.read_text().splitlines()
    lines[line - 1] = json.dumps(json.loads(lines[line - 1]) | changes)
    path.write_text("\n".join(lines))
    with pytest.raises(DatasetSourceError, match=rf"manifest\.jsonl: line {line}: .*{message}"):
        read_manifest(folder)


def test_downloads_survive_faults(folder, proxy, materials, moto, put):
    """Missing keys, cut connections, truncated and flipped bytes, silence, an overloaded server."""
    entries = read_manifest(folder).entries
    names = ["cut", "short", "flip", "slow", "refuse", "missing", "changed"]
    assert len(entries) == len(names)
    for entry, fault in zip(entries, names):
        if fault == "missing":
            moto[1].delete_object(Bucket=NAME, Key=entry.key)
        elif fault == "changed":
            put(entry.key, b"another")
        else:
            proxy.faults[path_of(entry)] = [fault, fault]
    results = {result.key: result for result in download(folder, open_bucket(proxy), threads=4)}
    for entry, fault in zip(entries, names):
        result, path = results[entry.key], folder / entry.key
        if fault in ("missing", "changed"):
            assert (result.status, result.attempts, path.exists()) == (fault, 1, False)
            continue
        assert (result.status, result.attempts) == ("fetched", 3)
        assert path.read_bytes() == materials[entry.material_id]["object"]
        # A broken transfer goes on where it stopped; damaged bytes are not kept.
        ranges = [r for method, p, r in proxy.requests if p == path_of(entry) and method == "GET"]
        half = entry.size // 2
        if fault in ("cut", "short"):
            assert ranges == [None, f"bytes={half}-", f"bytes={half + (entry.size - half) // 2}-"]
            assert result.resumed > half
        else:
            assert ranges == [None, None, None]
    rows = table(folder / "downloads.csv")
    assert [row["status"] for row in rows] == ["fetched"] * 5 + ["missing", "changed"]
    assert not list(folder.rglob("*.part"))


def test_interrupted_download_goes_on_and_keeps_what_is_there(folder, proxy, materials):
    entries = read_manifest(folder).entries
    proxy.faults[path_of(entries[0])] = ["cut"]
    first = download(folder, open_bucket(proxy, attempts=1), threads=2)
    assert [result.status for result in first] == ["failed"] + ["fetched"] * (len(entries) - 1)
    assert not (folder / entries[0].key).exists()
    proxy.requests.clear()
    second = download(folder, open_bucket(proxy), threads=2)
    assert [result.status for result in second] == ["fetched"] + ["kept"] * (len(entries) - 1)
    assert second[0].resumed == entries[0].size // 2
    assert proxy.requests == [("GET", path_of(entries[0]), f"bytes={entries[0].size // 2}-")]
    for entry in entries:
        assert (folder / entry.key).read_bytes() == materials[entry.material_id]["object"]


def test_density_of_another_task_is_not_taken(folder, proxy, materials):
    """Pinned and intact, but not what the task's document says: each check on its own."""
    path = folder / "manifest.jsonl"
    header, *lines = path.read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    entries[0]["num_electrons"] += 1
    entries[1]["grid"] = [2, 2, 2]
    entries[2]["volume"] *= 1.01
    entries[3]["formula"] = "XeF2"
    path.write_text("\n".join([header, *map(json.dumps, entries)]))
    results = download(folder, open_bucket(proxy), threads=2)
    assert [result.status for result in results] == ["different"] * 4 + ["fetched"] * 3
    for result, word in zip(results, ("electrons", "grid", "volume", "formula")):
        assert word in result.message
    assert not list(folder.rglob("*.part"))


def test_object_damaged_for_good_is_reported(folder, proxy):
    entry = read_manifest(folder).entries[0]
    proxy.faults[path_of(entry)] = ["flip"] * 9
    results = download(folder, open_bucket(proxy, attempts=3), threads=2)
    assert (results[0].status, results[0].attempts) == ("damaged", 3)
    assert "checksum" in results[0].message  # boto3's; without one, ours by MD5


def test_checksum_is_compared_without_the_servers_help(folder):
    """Bytes of an interrupted run that are complete and wrong."""
    entry = read_manifest(folder).entries[0]
    part = folder / f"{entry.key}.part"
    part.parent.mkdir()
    part.write_bytes(bytes(entry.size))
    with pytest.raises(download_module.DamagedError, match="its MD5 is"):
        download_module._verified(part, entry)
    part.write_bytes(bytes(entry.size - 1))
    with pytest.raises(download_module.DamagedError, match=f"{entry.size - 1} of {entry.size}"):
        download_module._verified(part, entry)


def test_no_bucket(folder, proxy):
    with pytest.raises(BucketError, match="there is no bucket 'nowhere'"):
        download(folder, open_bucket(proxy, name="nowhere"), threads=2)


def test_records(folder, proxy, materials, moto, tmp_path):
    """From the bucket to records, one entry having no density any more."""
    entries = read_manifest(folder).entries
    moto[1].delete_object(Bucket=NAME, Key=entries[0].key)
    builder = tfds_builders.load_builder(
        "materials_project/nonmagnetic_grid32", tmp_path, source=folder
    )
    with pytest.raises(DatasetSourceError, match=r"7 of 7 densities were not fetched.*download"):
        builder.download_and_prepare()
    arguments = [str(folder), f"--endpoint_url={proxy.url}", "--attempts=1", "--threads=2"]
    assert download_module.main(arguments) == 1
    builder.download_and_prepare()
    sources = builder.as_data_source()
    found = {r["material_id"].decode(): r for source in sources.values() for r in source}
    assert set(found) == {entry.material_id for entry in entries[1:]}
    (row,) = table(Path(builder.data_path) / "materials_project_left_out.csv")
    assert (row["material_id"], row["reason"]) == (entries[0].material_id, "its density is missing")
    assert builder.info.metadata["num_left_out"] == 1
    assert builder.info.metadata["database_version"] == "2025.09.25"
    for index, entry in enumerate(entries):
        if not index:
            continue
        record = found[entry.material_id]
        electrons = float(materials[entry.material_id]["row"]["num_electrons"])
        volume = abs(np.linalg.det(record["lattice"].astype(float)))
        assert record["density"].shape == (32, 32, 32, 1)
        assert record["density"].mean(dtype=float) * volume == pytest.approx(electrons, rel=1e-4)
        assert (record["code"], record["functional"]) == (b"VASP", b"PBE")
        assert (record["fold"], record["index"]) == (entry.fold, index)
        for name, label in record["targets"].items():
            assert label == np.float32(entry.labels[name])
    for split, source in sources.items():
        assert {f"fold{record['fold']}" for record in source} == {split}

    # Another manifest, or other densities left out, is another dataset.
    fingerprint = tfds_builders.fingerprint(builder)
    put_back = download(folder, Bucket(endpoint_url=proxy.url), threads=2)
    assert put_back[0].status == "missing"
    (folder / entries[0].key).write_bytes(materials[entries[0].material_id]["object"])
    whole = tfds_builders.load_builder(
        "materials_project/nonmagnetic_grid32", tmp_path / "whole", source=folder
    )
    whole.download_and_prepare()
    assert whole.info.metadata["num_left_out"] == 0
    assert tfds_builders.fingerprint(whole) != fingerprint


def test_beam_builds_the_same(folder, proxy, tmp_path):
    """Two workers of Apache Beam's local runner; needs the extra `beam`."""
    pytest.importorskip("apache_beam")
    from tfds_builders.__main__ import beam_config

    download(folder, Bucket(endpoint_url=proxy.url), threads=2)
    options = ["runner=DirectRunner", "direct_running_mode=multi_processing"]
    found = []
    for place, config in enumerate((None, beam_config([*options, "direct_num_workers=2"]))):
        builder = tfds_builders.load_builder(
            "materials_project/nonmagnetic_grid32", tmp_path / str(place), source=folder
        )
        builder.download_and_prepare(**({"download_config": config} if config else {}))
        sources = builder.as_data_source().values()
        found.append({r["material_id"]: r for source in sources for r in source})
    assert found[0].keys() == found[1].keys()
    for name, record in found[0].items():
        np.testing.assert_array_equal(found[1][name]["density"], record["density"])
        assert found[1][name]["index"] == record["index"]


def test_magnetic_records_have_two_channels_and_classes_are_numbers(client, proxy, tmp_path):
    for name, target in (
        ("magnetic", "magnetic_moment"), ("stability", "is_stable"), ("densities", "volume"),
    ):
        manifest, _ = make_manifest(as_api(client), open_bucket(proxy), name, threads=4)
        manifest.entries[3:] = []
        write_manifest(manifest, tmp_path / name)
        download(tmp_path / name, open_bucket(proxy), threads=2)
        builder = tfds_builders.load_builder(
            f"materials_project/{name}_grid32", tmp_path, source=tmp_path / name
        )
        builder.download_and_prepare()
        for source in builder.as_data_source().values():
            for record in source:
                label = record["targets"][target]
                if name == "stability":
                    assert label == 1
                    continue
                if name == "densities":
                    assert record["density"].std() > 0
                    continue
                volume = abs(np.linalg.det(record["lattice"].astype(float)))
                moment = record["density"][..., 1].mean(dtype=float) * volume
                assert abs(moment) == pytest.approx(label, abs=2e-2)


def test_builder_says_what_is_missing(folder, tmp_path):
    for name, archive, message in (
        ("nonmagnetic_grid64", "", "manifest nonmagnetic --out=FOLDER"),
        ("nonmagnetic_grid64", tmp_path / "no", "manifest.jsonl: No such file"),
        ("magnetic_grid64", folder, "the manifest of 'nonmagnetic'; expected 'magnetic'"),
    ):
        builder = tfds_builders.load_builder(f"materials_project/{name}", tmp_path, source=archive)
        with pytest.raises(DatasetSourceError, match=message):
            builder.download_and_prepare()


def test_density_replaced_after_the_download(folder, proxy, tmp_path):
    download(folder, open_bucket(proxy), threads=2)
    first, second = read_manifest(folder).entries[:2]
    (folder / first.key).write_bytes((folder / second.key).read_bytes())
    builder = tfds_builders.load_builder(
        "materials_project/nonmagnetic_grid32", tmp_path, source=folder
    )
    with pytest.raises(DatasetSourceError, match=r"the formula is.*remove the file and run"):
        builder.download_and_prepare()
    assert not builder.is_prepared()


@pytest.mark.parametrize("config", [paper_nonmagnetic, paper_magnetic, paper_stability])
def test_paper_configs_name_what_there_is(config, tmp_path):
    config = config.get_config()
    builder = tfds_builders.load_builder(config.data.name, tmp_path)
    targets = builder.info.features["targets"]
    assert {spec.name for spec in get_specs(config.targets)} <= set(targets)
    assert builder.builder_config.grid == 64


def test_manifest_command(client, proxy, tmp_path, monkeypatch, capsys):
    arguments = ["nonmagnetic", f"--out={tmp_path / 'mp'}", f"--endpoint_url={proxy.url}"]
    monkeypatch.delenv("MP_API_KEY", raising=False)
    with pytest.raises(DatasetSourceError, match="MP_API_KEY is not set"):
        manifest_module.main(arguments)
    monkeypatch.setenv("MP_API_KEY", "key")
    monkeypatch.setitem(sys.modules, "mp_api.client", None)
    with pytest.raises(DatasetSourceError, match=r"pip install 'densityjax\[materials_project\]'"):
        manifest_module.main(arguments)

    monkeypatch.setattr(manifest_module, "make_api", lambda threads: as_api(client))
    manifest_module.main(arguments)
    assert "7 entries of database 2025.09.25" in capsys.readouterr().out
    assert (tmp_path / "mp/left_out.csv").exists()
    with pytest.raises(DatasetSourceError, match="exists; ids stay pinned"):
        manifest_module.main(arguments)


def test_bandwidth():
    """Against the widths that such bands have by construction."""
    band = np.linspace(-4, 0, 50)
    core = np.full(50, -20.0)
    above = np.linspace(1, 5, 50)
    assert bandwidth(np.stack([band, core, above]), top=0.0) == pytest.approx(4.0)
    assert bandwidth(np.stack([band, band - 1, above]), top=0.0) == pytest.approx(5.0)
    # A hole of 2.5 eV: ends at 2 eV, but not at 3 eV.
    assert bandwidth(np.stack([band, band - 6.5]), top=0.0) is None
    assert bandwidth(above, top=0.0) is None


def test_lowest_frequency_leaves_out_acoustic_gamma():
    q = np.array([[0, 0, 0], [0.5, 0, 0], [1, 0, 0]])  # the last is Gamma again
    frequencies = np.array([[-0.3, 1, -0.3], [0.1, 2, 0], [5, 3, 5], [0.2, 6, 0.1], [4, 6, 4]])
    assert lowest_frequency(frequencies, q) == 1
    frequencies[2, 2] = -2.0  # an optical mode
    assert lowest_frequency(frequencies, q) == -2
    frequencies[2, 1] = -0.05
    frequencies[2, 2] = 2.0
    assert lowest_frequency(frequencies, q) == -0.05
