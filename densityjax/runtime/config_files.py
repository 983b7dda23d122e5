"""Finds config files: those that ship with the package by their names, a user's by their paths."""

import difflib
from pathlib import Path

from densityjax.runtime.errors import ConfigError

SHIPPED = Path(__file__).parents[1] / "configs"


def shipped_names() -> list[str]:
    """Names of the configs that ship, such as 'elastic' and 'ablations/paper_cpu'."""
    paths = [path for path in SHIPPED.rglob("*.py") if "def get_config(" in path.read_text("utf-8")]
    return sorted(path.relative_to(SHIPPED).with_suffix("").as_posix() for path in paths)


def existing_or_shipped(path: Path) -> Path:
    """`path`; where no file is there, the one that ships as 'configs/...', if `path` names one.

    Configs name other files by their place in the clone, such as configs/target_groups.py.
    """
    if not path.exists() and path.parts[:1] == ("configs",):
        shipped = SHIPPED.joinpath(*path.parts[1:])
        return shipped if shipped.is_file() else path
    return path


def find_config(given: str) -> Path:
    """The file of a config that a user names.

    A file of that path comes first, so that a user's own `configs/elastic.py` is what it says.
    Otherwise 'elastic', 'elastic.py' and 'configs/elastic.py' are the one that ships.

    Raises:
        ConfigError: it is neither a file nor the name of a shipped config.
    """
    path = Path(given)
    if path.suffix == ".py" and path.is_file():
        return path
    name, names = given.removeprefix("configs/").removesuffix(".py"), shipped_names()
    if name in names:
        return SHIPPED / f"{name}.py"
    if path.is_file():
        return path
    close = difflib.get_close_matches(name, names, n=3)
    raise ConfigError(
        f"no file {given!r}, and no config of that name ships"
        + (f" (did you mean {' or '.join(close)}?)" if close else "")
        + f". Shipped are {', '.join(names)}"
    )
