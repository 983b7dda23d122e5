"""What a wheel installs works in an empty folder, without the clone that it was built from."""

import csv
import json
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from densityjax.__main__ import DOORS, main
from densityjax.runtime.commit import BUILT_FROM, clone_commit
from tests.prediction.golden import golden_files
from tests.small_model import SMALL_MODEL

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.process
# Doors whose flags are absl's, which takes a name once in a process.
ABSL = ("train", "pretrain", "groups", "ablation", "modules")
SHORT = [
    *(f"--config.{key}={value}" for key, value in SMALL_MODEL.items()),
    "--config.train.epochs=1", "--config.train.evaluate_every_epochs=1",
    "--config.train.batch_size=16",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built with the setuptools that is installed, without a network."""
    root = tmp_path_factory.mktemp("wheel")
    # Outside the tree: what an earlier build left in build/ would come into the wheel.
    (root / "build.cfg").write_text(f"[build]\nbuild_base={root}\n[egg_info]\negg_base={root}\n")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
            "--no-index", f"--wheel-dir={root}", str(ROOT),
        ],
        env=os.environ | {"DIST_EXTRA_CONFIG": str(root / "build.cfg")}, check=True, timeout=300,
    )
    return next(root.glob("densityjax-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed in: below the repository of another project."""
    project = tmp_path_factory.mktemp("project")
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    target = project / "venv"
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
            f"--target={target}", str(wheel),
        ],
        check=True, timeout=300,
    )
    return target


def run(
    installed: Path, folder: Path, *arguments: str, timeout: float = 60
) -> subprocess.CompletedProcess:
    """Runs the installed command `densityjax` in a folder."""
    environ = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(
        [installed / "bin" / "densityjax", *arguments],
        cwd=folder, env=environ, capture_output=True, text=True, timeout=timeout,
    )


@pytest.mark.slow
def test_the_wheel_holds_the_configs_below_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        about = next(name for name in names if name.endswith("/METADATA"))
        text = archive.read(about).decode()
        licences = {name.partition("/licenses/")[2] for name in names if "/licenses/" in name}
        if commit := clone_commit():
            assert archive.read(f"densityjax/{BUILT_FROM}").decode().strip() == commit
    configs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.py")}
    assert {f"densityjax/{name}" for name in configs} <= names
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "densityjax", "tfds_builders",
    }
    for version in ("1.0.0", "2.0.0"):
        assert f"tfds_builders/elastic_densities/elastic_densities-{version}.tar" in names
    assert "densityjax/report/template.html" in names
    models = (path for path in (ROOT / "densityjax/pretrained").rglob("*") if path.is_file())
    assert {path.relative_to(ROOT).as_posix() for path in models} <= names
    assert licences == {"LICENSE", "tfds_builders/elastic_densities/LICENSE"}
    assert "License-Expression: Apache-2.0 AND CC-BY-4.0" in text


@pytest.mark.slow
def test_the_installed_command_trains_shipped_and_own_configs(installed, data_dir, tmp_path):
    own = tmp_path / "configs" / "elastic.py"  # the user's own, of the name of a shipped one
    own.parent.mkdir()
    own.write_text(
        "from densityjax.configs import smoke\n\n\n"
        "def get_config():\n"
        "    config = smoke.get_config()\n"
        "    config.seed = 7\n"
        "    return config\n"
    )
    (installed / "densityjax" / BUILT_FROM).write_text("0123456789ab\n")
    data = f"--config.data.data_dir={data_dir}"
    # Both of the one target, so that the second finds the program of the first compiled.
    target = "--config.targets=('volume',)"
    for given, seed in (("smoke", 0), ("configs/elastic.py", 7)):
        arguments = ("train", f"--config={given}", "--workdir=run", data, target, *SHORT)
        result = run(installed, tmp_path, *arguments, timeout=280)
        assert result.returncode == 0, result.stderr
        facts = json.loads((tmp_path / "run/run.json").read_text())
        assert facts["commit"] == "0123456789ab"  # neither this clone's nor the project's
        assert facts["versions"]["densityjax"] == metadata.version("densityjax")
        assert json.loads((tmp_path / "run/config.json").read_text())["seed"] == seed
        with open(tmp_path / "run/predictions.csv", newline="") as file:
            assert {row["target"] for row in csv.DictReader(file)} == {"volume"}
        (tmp_path / "run").rename(tmp_path / f"run_{seed}")
    result = run(installed, tmp_path, "report", "--workdir=run_0")
    assert result.returncode == 0, result.stderr
    found = subprocess.run(
        [sys.executable, "-P", "-c", "import densityjax.configs as c; print(c.__file__)"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True,
        text=True, check=True,
    )
    assert Path(found.stdout.strip()).parent == installed / "densityjax" / "configs"
    assert not (installed / "configs").exists()


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "densityjax", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )


def test_a_file_is_predicted_in_an_empty_folder(installed, tmp_path):
    """With the weights of the wheel, from somewhere else than the clone."""
    (file, *_) = golden_files(tmp_path)
    result = run(installed, tmp_path, "predict", file.name, "--json")
    (answer,) = json.loads(result.stdout)
    assert {row["target"] for row in answer["predictions"]} >= {"bulk_modulus", "band_gap"}
    assert all("lower" in row for row in answer["predictions"])


def test_help_names_every_command():
    result = command("--help")
    assert result.returncode == 0
    assert all(f"  {name} " in result.stdout for name in DOORS)


def test_version():
    assert command("--version").stdout == f"densityjax {metadata.version('densityjax')}\n"


def test_an_unknown_command_gets_close_ones():
    result = command("tran", "--config=smoke")
    assert result.returncode == 1
    assert result.stderr.startswith("error: unknown command 'tran'; did you mean train or ")


@pytest.mark.parametrize(
    ("arguments", "imported"),
    [(["--help"], ()), (["--version"], ()), (["train", "--help"], ("absl", "ml_collections"))],
)
def test_what_answers_at_once_imports_no_heavy_library(arguments, imported):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['densityjax', *{arguments}]\n"
        "try:\n"
        "    runpy.run_module('densityjax', run_name='__main__')\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120,
    )
    loaded = set(result.stdout.splitlines()[-1].split())
    assert loaded >= {"densityjax", *imported}
    assert not loaded & {"jax", "flax", "numpy", "matplotlib", "orbax", "tensorflow_datasets"}


@pytest.mark.parametrize("name", DOORS)
def test_every_command_opens_its_door(name, monkeypatch, capsys):
    if name in ABSL:
        result = command(name, "--help")
        assert result.returncode in (0, 1)  # absl's choice
        output, error = result.stdout, result.stderr
    else:  # in this process, which spares the imports
        monkeypatch.setattr(sys, "argv", ["densityjax", name, "--help"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        output, error = capsys.readouterr()
    assert "Traceback" not in error
    assert DOORS[name][0] in output
