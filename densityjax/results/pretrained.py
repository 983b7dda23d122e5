"""Models by name: those that ship with the package, folders, and the hub's."""

import difflib
from pathlib import Path

from densityjax.results import hub
from densityjax.runtime.errors import UserError

FOLDER = Path(__file__).parents[1] / "pretrained"
DEFAULT = "elastic"


def names() -> list[str]:
    """Of the models that ship."""
    return sorted(path.parent.name for path in FOLDER.glob("*/model.json"))


def find_model(given: str | Path, setting: str = "--model") -> Path:
    """The folder of a model.

    Args:
        given: the name of a model that ships, a folder (of a finished run, or exported), or
          'hf:owner/name@commit', see `hub.fetch`.
        setting: where it was given, for the message.

    Raises:
        UserError: it is neither; names what ships.
    """
    text = str(given)
    if text.startswith(hub.PREFIX):
        return hub.fetch(text)
    if text in names():
        return FOLDER / text
    if Path(text).is_dir():
        return Path(text)
    close = difflib.get_close_matches(text, names(), n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError(
        f"{setting}={text}: no such folder, and no model of that name ships; {hint}"
        f"Models: {', '.join(names()) or 'none'}"
    )
