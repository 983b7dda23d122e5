"""The three datasets of the paper through the real client of the Materials Project's API.

The API is an HTTP server with the operators of the real one, its documents are made by emmet-core's
models, tables of band structures and densities lie in a local S3 server. From there the commands of
the README go on to ten training steps. Needs the extra `materials_project`.
"""

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from densityjax.configs import paper_magnetic, paper_nonmagnetic, paper_stability
from densityjax.training.run import train_and_evaluate
from tests.small_model import SMALL_MODEL
from tfds_builders.errors import DatasetSourceError
from tfds_builders.materials_project import api as api_module
from tfds_builders.materials_project import download, manifest
from tfds_builders.materials_project.api import ApiError
from tfds_builders.materials_project.bucket import NAME, Bucket
from tfds_builders.materials_project.entries import read_manifest
from tfds_builders.materials_project.ids import number_of, spelled
from tfds_builders.materials_project.queries import object_key

pytest.importorskip("mp_api.client", reason="needs the extra materials_project")

from emmet.core.mpid import AlphaID
from mp_api.client.core import client as client_module

from tests.tfds_builders.real_client.entries import (
    ENTRIES,
    NUM_ELECTRONS,
    bare,
    density_file,
    documents,
)
from tests.tfds_builders.real_client.server import (
    GNOME,
    KEY,
    VERSION,
    StandIn,
    serve,
)
from tests.tfds_builders.real_client.tables import BANDS, PHONONS, write_tables

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.process  # the S3 server
CONFIGS = {
    "nonmagnetic": paper_nonmagnetic, "magnetic": paper_magnetic, "stability": paper_stability,
}


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """URL of a local S3 server with the bucket's tables and densities, and a client that writes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.tfds_builders.real_client.s3_process"], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    url = f"http://127.0.0.1:{int(process.stdout.readline())}"
    writer = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    writer.create_bucket(Bucket=NAME, ACL="public-read")

    def put(key: str, data: bytes) -> None:
        writer.put_object(Bucket=NAME, Key=key, Body=data, ACL="public-read")

    folder = tmp_path_factory.mktemp("tables")
    write_tables(folder)
    for path in folder.rglob("*"):
        if path.is_file():
            put(path.relative_to(folder).as_posix(), path.read_bytes())
    for entry in ENTRIES:
        put(object_key(entry.static), density_file(entry))
    yield url, writer
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def all_documents():
    return documents()


@pytest.fixture
def api(s3, all_documents, monkeypatch):
    """The API's server, which the client finds; tests may change its documents."""
    monkeypatch.setenv("MP_API_KEY", KEY)
    for name, value in {"AWS_ENDPOINT_URL": s3[0], "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)  # for the reader of tables
    with serve(copy.deepcopy(all_documents)) as api:
        monkeypatch.setenv("MP_API_ENDPOINT", api.url)
        yield api


def make(name: str, s3, **kwargs):
    """The manifest of a dataset and what was left out; few entries, and no pauses."""
    client = manifest.make_api()
    client._pause = 0.01
    kwargs = {"material_ids": [f"mp-{entry.number}" for entry in ENTRIES], **kwargs}
    return manifest.make_manifest(client, Bucket(endpoint_url=s3[0]), name, **kwargs)


@pytest.mark.slow
def test_from_the_api_to_training(api: StandIn, s3, tmp_path, capsys):
    """manifest, download, build and ten steps of each of the paper's configs."""
    by_id = {f"mp-{entry.number}": entry for entry in ENTRIES}
    for name, module in CONFIGS.items():
        folder, url = tmp_path / name, f"--endpoint_url={s3[0]}"
        assert manifest.main([name, f"--out={folder}", url, "--threads=4"]) == 0
        entries = read_manifest(folder).entries
        wanted = {
            f"mp-{e.number}" for e in ENTRIES
            if name == "stability" or e.magnetic == (name == "magnetic")
        }
        assert {entry.material_id for entry in entries} == wanted
        for entry in entries:
            made = by_id[entry.material_id]
            assert entry.task_id == spelled(made.static)
            assert entry.num_electrons == NUM_ELECTRONS
            expected = {
                "bulk_modulus": made.bulk_modulus, "magnetic_moment": made.moment,
                "is_stable": float(made.lowest > 0), "volume": made.structure.volume,
                "density": made.structure.density, "bandwidth": made.bandwidth,
                "fermi_energy": made.fermi_energy, "band_gap": made.gap,
                "total_energy": -10.0 - 0.1 * made.number,
                "formation_energy_per_atom": -0.1 - 0.01 * made.number,
            }
            for label, value in entry.labels.items():
                assert value == pytest.approx(expected[label], rel=1e-3), label
        assert capsys.readouterr().out.count(f"entries of database {VERSION}") == 1
        assert download.main([str(folder), url, "--threads=4"]) == 0

        config = module.get_config()
        config.data.data_dir = str(tmp_path / "data")
        config.data.source = str(folder)
        config.update_from_flattened_dict(SMALL_MODEL | {
            "train.batch_size": 16, "train.epochs": 10, "train.evaluate_every_epochs": 5,
            "train.log_every_steps": 1, "train.num_threads": 1,
        })
        config.yardsticks = ()  # half the time, and nothing to do with where data come from
        if name == "stability":
            config.train.epochs = 5  # twice the entries
        metrics = train_and_evaluate(config, tmp_path / "runs" / name)
        assert metrics
        lines = (tmp_path / "runs" / name / "metrics.jsonl").read_text().splitlines()
        trained = [line for line in map(json.loads, lines) if line["split"] == "train"]
        assert [line["step"] for line in trained][-1] == 10
        assert all(math.isfinite(line["loss"]) for line in trained)


@pytest.mark.parametrize("form", ["bare", "prefixed", "number"])
def test_ids_in_every_spelling(api: StandIn, s3, form):
    """Of tasks in materials, of deprecated ones, of phonons and of what tensors were fitted to."""
    write = {
        "bare": bare,
        "prefixed": lambda number: f"mp-{bare(number)}",
        "number": lambda number: f"mp-{number}",
    }[form]
    first = ENTRIES[0]
    for document in api.documents["core"]:
        document["calc_types"] = {
            write(number_of(t)): kind for t, kind in document["calc_types"].items()
        }
    api.documents["core"][0]["calc_types"][write(7)] = "GGA Static"
    api.documents["core"][0]["deprecated_tasks"] = ["mp-7"]
    for document in api.documents["elasticity"]:
        data = document["fitting_data"]
        data["optimization_task"] = write(number_of(data["optimization_task"]))
        data["deformation_tasks"] = [write(number_of(t)) for t in data["deformation_tasks"]]
    for document in api.documents["summary"]:
        ids = document["phonon_IDs"]
        ids["dfpt"] = [write(number_of(identifier)) for identifier in ids["dfpt"]]
    given = [write(entry.number) for entry in ENTRIES[:3]]
    for name, label in (("nonmagnetic", "bulk_modulus"), ("stability", "is_stable")):
        found, left_out = make(name, s3, material_ids=given)
        assert [entry.material_id for entry in found.entries] == ["mp-149", "mp-150", "mp-151"]
        assert found.entries[0].task_id == spelled(first.static)
        assert left_out == []
        assert all(label in entry.labels for entry in found.entries)


def test_ids_against_the_models():
    for number in (1, 25, 26, 149, 3347529, 3347530, 4_000_123):
        alpha = AlphaID(number, padlen=8, prefix="mp")
        assert number_of(str(alpha)) == number_of(alpha.string) == number
        assert spelled(number) == AlphaID(number, prefix="mp").string


def test_deformations_that_are_not_public(api: StandIn, s3):
    """One task whose run type is known is enough, and another run type is not."""
    hidden, other = ENTRIES[0], ENTRIES[1]
    relaxations = {bare(hidden.relaxation), bare(other.relaxation)}
    for document in api.documents["core"]:
        document["calc_types"] = {
            t: kind for t, kind in document["calc_types"].items() if "Static" in kind
        }
    tasks = api.documents["tasks"]
    tasks[:] = [task for task in tasks if task["task_id"] not in relaxations]
    for task in tasks:
        if task["task_id"] == bare(other.deformation):
            task["run_type"] = "GGA+U"
    ids = [f"mp-{hidden.number}", f"mp-{other.number}"]
    found, left_out = make("nonmagnetic", s3, material_ids=ids)
    (entry,) = found.entries
    assert entry.material_id == ids[0]
    assert entry.origins["elasticity_tasks"] == [spelled(hidden.deformation)]
    assert "run type GGA+U, not GGA" in left_out[0].reason


def test_antiferromagnets_have_a_moment(api: StandIn, s3):
    found, left_out = make("magnetic", s3)
    zero = [e for e in ENTRIES if e.magnetic and not e.moment]
    labels = {entry.material_id: entry.labels["magnetic_moment"] for entry in found.entries}
    assert zero
    assert all(labels[f"mp-{entry.number}"] == 0 for entry in zero)
    assert [row for row in left_out if row.what == "magnetic_moment"] == []


def test_gnome_is_not_taken(api: StandIn, s3):
    """Neither what the server calls GNoME's nor what only its licence shows."""
    first, second = api.documents["summary"][:2]
    first["builder_meta"] = {"license": "BY-NC", "batch_id": GNOME}
    second["builder_meta"] = {"license": "BY-NC"}
    found, left_out = make("nonmagnetic", s3)
    ids = {entry.material_id for entry in found.entries}
    assert not ids & {"mp-149", "mp-150"}
    assert "its licence is BY-NC" in next(r.reason for r in left_out if r.material_id == "mp-150")


def test_absent_band_structures_are_labels_that_are_missing(api: StandIn, s3):
    summary = api.documents["electronic_structure"][0]["bandstructure"]["setyawan_curtarolo"]
    summary["task_id"] = "mp-5"
    api.documents["summary"][0]["phonon_IDs"]["dfpt"] = ["mp-6"]
    found, left_out = make("nonmagnetic", s3, material_ids=["mp-149"])
    assert "bandwidth" not in found.entries[0].labels
    assert "No bandstructure data found" in left_out[0].reason
    found, left_out = make("stability", s3, material_ids=["mp-149", "mp-150"])
    assert [entry.material_id for entry in found.entries] == ["mp-150"]
    assert "No phonon bandstructure data found" in left_out[0].reason


@pytest.mark.parametrize(("name", "place"), [("nonmagnetic", BANDS), ("stability", PHONONS)])
def test_failed_band_structures_stop_with_the_entry_named(
    api: StandIn, s3, monkeypatch, name, place
):
    """A passing fault is waited for; one that stays is no missing label."""
    query = client_module.BaseRester._query_delta_single
    faults = [1, 1]

    def failing(self, text):
        if faults and "SELECT" in text:
            faults.pop()
            raise client_module.MPRestError("Failed to retrieve object due to: connection reset")
        return query(self, text)

    monkeypatch.setattr(client_module.BaseRester, "_query_delta_single", failing)
    found, left_out = make(name, s3, material_ids=["mp-149"])
    assert len(found.entries) == 1
    assert left_out == []
    faults.extend([1] * 100)
    with pytest.raises(ApiError, match=r"band structure .*of mp-149: .* failed 6 times.*reset"):
        make(name, s3, material_ids=["mp-149"])


def test_slow_answers_are_asked_for_in_halves(api: StandIn, s3, monkeypatch):
    """The client gives up after some seconds, and says so; here sooner."""
    init = client_module.BaseRester.__init__
    monkeypatch.setattr(
        client_module.BaseRester, "__init__",
        lambda self, *args, **kwargs: init(self, *args, **{**kwargs, "timeout": 0.5}),
    )
    api.failures["tasks"] = [2.0] * 4  # the client's own attempts
    found, _ = make("nonmagnetic", s3)
    assert len(found.entries) == 15
    sizes = [len(query["task_ids"].split(",")) for place, query in api.requests if place == "tasks"]
    # The client sends both spellings of an id.
    assert sizes[:4] == [30] * 4
    assert sorted(sizes[4:6]) == [14, 16]


def test_errors_of_the_api_are_one_line(api: StandIn, s3, monkeypatch, tmp_path):
    """A server that fails for a while, or for good; a key that is not taken; an old client."""
    api.failures["summary"] = [500, 502, 503]
    assert len(make("magnetic", s3)[0].entries) == 15
    api.failures["summary"] = [500] * 99
    with pytest.raises(ApiError, match=r"summaries of mp-149 .*failed 6 times .*500") as error:
        make("magnetic", s3)
    assert "\n" not in str(error.value)
    with monkeypatch.context() as patches:
        patches.setattr(api_module.time, "sleep", lambda seconds: None)
        arguments = ["magnetic", f"--out={tmp_path / 'mp'}", f"--endpoint_url={s3[0]}"]
        with pytest.raises(ApiError, match=r"summaries: .*nothing was written"):
            manifest.main(arguments)
    assert not (tmp_path / "mp").exists()
    monkeypatch.setenv("MP_API_KEY", "w" * 32)
    with pytest.raises(ApiError, match=r"refuses the key \(.*403") as error:
        make("magnetic", s3)
    assert "\n" not in str(error.value)
    monkeypatch.setenv("MP_API_KEY", "short")
    with pytest.raises(ApiError, match=r"refuses the key \(.*32 characters") as error:
        manifest.make_api()
    assert "\n" not in str(error.value)
    monkeypatch.setenv("MP_API_KEY", KEY)
    monkeypatch.setenv("MP_API_ENDPOINT", "http://127.0.0.1:9/")
    with pytest.raises(ApiError, match="cannot be reached") as error:
        manifest.make_api()
    assert "\n" not in str(error.value)
    monkeypatch.setattr("mp_api.client.__version__", "0.46.1")
    with pytest.raises(DatasetSourceError, match=r"mp-api is version 0\.46\.1, too old"):
        manifest.make_api()


def test_server_that_knows_no_parts_of_fields(api: StandIn, s3):
    api.knows_dotted = False
    plain = [f"mp-{entry.number}" for entry in ENTRIES if not entry.magnetic]
    found, left_out = make("nonmagnetic", s3, material_ids=plain)
    assert len(found.entries) == 15
    assert left_out == []
    assert found.entries[0].num_electrons == NUM_ELECTRONS


def test_nothing_slow_is_asked_of_what_is_not_kept(api: StandIn, s3):
    """Labels first: without a bulk modulus no task, no density and no band structure."""
    for document in api.documents["elasticity"][1:]:
        document["state"] = "failed"
    found, left_out = make("nonmagnetic", s3)
    assert [entry.material_id for entry in found.entries] == ["mp-149"]
    asked = [query["task_ids"] for place, query in api.requests if place == "tasks"]
    assert all(set(text.split(",")) == {spelled(ENTRIES[0].static), bare(ENTRIES[0].static)}
               for text in asked)
    assert sum(row.what == "bulk_modulus" for row in left_out) == 14


def test_dry_run_says_what_and_why(api: StandIn, s3, tmp_path, capsys):
    folder = tmp_path / "mp"
    api.documents["elasticity"][1]["state"] = "failed"
    arguments = ["nonmagnetic", f"--out={folder}", "--limit=5", "--dry-run"]
    assert manifest.main([*arguments, f"--endpoint_url={s3[0]}"]) == 0
    assert not folder.exists()
    said = capsys.readouterr().out
    assert said.startswith("dry run, nothing is written: 5 entries of database 2026.08.01")
    for number in (149, 151, 152, 153, 154):
        entry = ENTRIES[number - 149]
        assert f"  mp-{number} " in said
        assert f"{object_key(entry.static)}, 0.0 MB, the latest with a density of 1 GGA" in said
    assert "mp-155" not in said
    assert "1  bulk_modulus: the elastic fit is failed" in said
    requests = int(said.splitlines()[-1].split()[0])
    assert requests <= 20
    assert said.splitlines()[-1].startswith(f"{requests} requests to the API in ")


def test_no_entry_is_an_error(api: StandIn, s3, tmp_path, capsys):
    for document in api.documents["elasticity"]:
        document["state"] = "failed"
    folder = tmp_path / "mp"
    assert manifest.main(["nonmagnetic", f"--out={folder}", f"--endpoint_url={s3[0]}"]) == 1
    captured = capsys.readouterr()
    assert "15  bulk_modulus: the elastic fit is failed" in captured.out
    assert "error: no entry was found" in captured.err
    assert os.listdir(folder) == ["left_out.csv"]
