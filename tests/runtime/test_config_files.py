"""A config is found by the name that it ships under, or by the path of a user's file."""

from pathlib import Path

import pytest

from densityjax.runtime.command_line import _with_config_files
from densityjax.runtime.config_files import (
    SHIPPED,
    existing_or_shipped,
    find_config,
    shipped_names,
)
from densityjax.runtime.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("def get_config(): ...\n")
    return path


def test_the_names_are_the_configs_of_the_repository():
    files = (ROOT / "configs").rglob("*.py")
    generated = ("__init__", "target_groups")
    expected = [p.relative_to(ROOT / "configs") for p in files if p.stem not in generated]
    assert shipped_names() == sorted(p.with_suffix("").as_posix() for p in expected)
    assert "ablations/paper_cpu" in shipped_names()


@pytest.mark.parametrize("given", ["elastic", "elastic.py", "configs/elastic.py"])
def test_a_shipped_config_is_found_from_any_folder(given):
    assert find_config(given) == SHIPPED / "elastic.py"


def test_a_users_file_comes_before_the_shipped_one_of_its_path(folder):
    write(folder / "configs/elastic.py")
    write(folder / "mine.py")
    assert find_config("configs/elastic.py").samefile("configs/elastic.py")
    assert find_config("elastic") == SHIPPED / "elastic.py"
    assert find_config("configs/smoke.py") == SHIPPED / "smoke.py"
    assert find_config("mine.py").samefile("mine.py")


@pytest.mark.parametrize("given", ["elastik", "configs/elastik.py", "target_groups", "", "../main"])
def test_what_is_neither_is_refused_with_the_names(given):
    with pytest.raises(ConfigError, match=r"Shipped are ablations/attention, .*, smoke, tpu_pod"):
        find_config(given)


def test_close_names_are_told():
    with pytest.raises(ConfigError, match=r"did you mean elastic\?|did you mean elastic or"):
        find_config("configs/elastik.py")


def test_a_path_of_the_clone_is_the_shipped_file_where_the_user_has_none(folder):
    path = Path("configs/target_groups.py")
    assert existing_or_shipped(path) == SHIPPED / "target_groups.py"
    assert existing_or_shipped(Path("other/target_groups.py")) == Path("other/target_groups.py")
    write(folder / path)
    assert existing_or_shipped(path) == path


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["x", "--config=smoke", "--a=b"], ["x", f"--config={SHIPPED}/smoke.py", "--a=b"]),
        (["x", "--config", "smoke"], ["x", "--config", f"{SHIPPED}/smoke.py"]),
        (["x", "--config=smoke:a=b:c"], ["x", f"--config={SHIPPED}/smoke.py:a=b:c"]),
        (["x", "--config.seed=1", "--out", "smoke"], ["x", "--config.seed=1", "--out", "smoke"]),
        (["x", "--config"], ["x", "--config"]),
    ],
)
def test_only_the_value_of_the_flag_is_replaced(argv, expected):
    assert _with_config_files(argv) == expected
