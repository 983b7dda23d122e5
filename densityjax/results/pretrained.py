"""Models by name: those that ship with the package, folders, and the hub's."""

import argparse
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


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """--model and --workdir, of which a command line has one at most."""
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--model", default=DEFAULT, metavar="NAME|FOLDER|hf:OWNER/NAME@COMMIT",
        help=f"a model that ships ({', '.join(names())}; default {DEFAULT}), a folder that "
        "densityjax export made, or such a folder on the Hugging Face hub",
    )
    chosen.add_argument("--workdir", help="directory of a finished run")


def chosen_model(options: argparse.Namespace) -> Path:
    """The folder that the options of `add_model_options` name."""
    return Path(options.workdir) if options.workdir else find_model(options.model)
