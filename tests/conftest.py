"""Tests run on the CPU with eight simulated devices, which must be settled before JAX starts."""

import atexit
import fcntl
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

_COUNT = "--xla_force_host_platform_device_count"
os.environ["JAX_PLATFORMS"] = "cpu"
# Nothing from the user's cache, nothing to it: one of this session, for its workers and for the
# processes that they start. A bound makes JAX lock it.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _cache = tempfile.mkdtemp(prefix="densityjax-tests-")
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)
    os.environ |= {
        "JAX_ENABLE_COMPILATION_CACHE": "true", "JAX_COMPILATION_CACHE_DIR": _cache,
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(2**30),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }
if _COUNT not in os.environ.get("XLA_FLAGS", ""):
    # Most of the time goes to the compiler: machine code is not optimised, which takes a fifth off.
    flags = (os.environ.get("XLA_FLAGS", ""), f"{_COUNT}=8", "--xla_backend_optimization_level=0")
    os.environ["XLA_FLAGS"] = " ".join(flags).strip()

import densityjax  # noqa: E402, F401  adds its own XLA flag, so it precedes jax

# isort: split
import jax  # noqa: E402
import pytest  # noqa: E402
from _pytest.runner import pytest_runtest_protocol as protocol  # noqa: E402

from densityjax.runtime.stack_room import with_room  # noqa: E402


def pytest_sessionstart() -> None:
    """Fails at once, with the reason, when something started JAX too early."""
    if jax.device_count() != 8:
        pytest.exit(f"Tests need 8 simulated CPU devices, found {jax.devices()}", returncode=4)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """As pytest's own, which would have some test trace its models at the edge of a piece."""
    return with_room(protocol, item, nextitem)


@pytest.hookimpl(tryfirst=True)  # before -m chooses by the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts slow tests first, so that no worker is left alone with one at the end.

    A test that needs a finished run is slow, whatever itself takes. Such files come last of the
    slow ones, all but one, which makes the run: two that start together would both wait for it.
    """
    making = next((item.path for item in items if "smoke_run" in item.fixturenames), None)

    def place(item: pytest.Item) -> int:
        if "smoke_run" in item.fixturenames:
            item.add_marker("slow")
            return 0 if item.path == making else 2
        return 3 if item.get_closest_marker("slow") is None else 1

    items.sort(key=place)


@pytest.fixture(scope="session")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one worker leaves here the others find."""
    root = tmp_path_factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture(scope="session")
def data_dir(shared_root: Path) -> Path:
    """Data directory with `elastic_densities/grid24`, the 840 materials of 1.0: read it only.

    All 1,151 would take every run that trains on them 1.4 times as long.
    """
    from densityjax.data.dataset import open_dataset
    from tests.tfds_builders.test_elastic_densities import SHIPPED

    with open(shared_root / "data.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        open_dataset("elastic_densities/grid24", str(shared_root / "data"), True, archive=SHIPPED)
    return shared_root / "data"


@pytest.fixture(scope="session")
def smoke_run(shared_root: Path, data_dir: Path) -> Path:
    """Directory of a finished run of configs/smoke.py, shared by all tests: read it only."""
    from densityjax.configs import smoke
    from densityjax.training.run import train_and_evaluate

    workdir = shared_root / "smoke"
    with open(shared_root / "smoke.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (workdir / "run.json").exists():
            config = smoke.get_config()
            config.data.data_dir = str(data_dir)
            train_and_evaluate(config, workdir)
    return workdir


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data directory with `elastic_densities/grid24` of 6 real materials a fold, 2 with spin."""
    import csv

    import tfds_builders
    from tests.tfds_builders.test_elastic_densities import SHIPPED, pack

    with tarfile.open(SHIPPED) as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}
    chosen = []
    for fold in map(str, range(5)):
        rows = csv.DictReader(files["labels.csv"].decode().splitlines())
        rows = sorted((r for r in rows if r["fold"] == fold), key=lambda r: len(files[r["file"]]))
        spin = [r for r in rows if float(r["magnetic_moment"]) > 0.5]
        plain = [r for r in rows if r not in spin]
        unlabelled = [r for r in plain if not r["debye_temperature"]]
        insulators = [r for r in plain if r["is_metal"] == "0" and r["debye_temperature"]]
        metals = [r for r in plain if r["is_metal"] == "1" and r["debye_temperature"]]
        chosen += spin[:2] + unlabelled[:1] + insulators[:2] + metals[:1]
    root = tmp_path_factory.mktemp("small_dataset")
    sample = pack(root / "sample.tar", chosen, files)
    tfds_builders.load_builder("elastic_densities/grid24", root, sample).download_and_prepare()
    return root
