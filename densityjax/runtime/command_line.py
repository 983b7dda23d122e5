"""Command lines: mistakes are answered at once, in one line; `run` is every door's frame."""

import gc
import logging
import os
import sys
from collections.abc import Callable

from absl import flags
from absl import logging as absl_logging

from densityjax.runtime.config_files import find_config
from densityjax.runtime.errors import ConfigError, UserError
from densityjax.runtime.stack_room import with_room


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; exits with one line on an unknown key or a missing config file.

    For `absl.app.run(flags_parser=...)`, with a flag `config` of ml_collections. Its value is the
    path of a file or the name of a config that ships, see `find_config`.
    """
    try:
        rest = flags.FLAGS(_with_config_files(argv))
        _ = flags.FLAGS.config  # read now, so that a broken file is reported here
    except ConfigError as error:
        sys.exit(f"error: --config: {error}")
    except flags.Error as error:
        sys.exit(f"error: {error}; see --help")
    except OSError as error:  # its text holds tracebacks of the places that were tried
        last = str(error).strip().splitlines()[-1].strip()
        sys.exit(f"error: --config: no such file, or it cannot be loaded: {last}")
    except (AttributeError, KeyError, TypeError) as error:
        # ml_collections raises these for keys that the config does not declare, with close ones.
        text = str(error.args[0] if error.args else error).strip("'\"").replace("\\n", " ")
        sys.exit("error: --config: " + " ".join(text.split()))
    if len(rest) > 1:
        sys.exit(f"error: unexpected arguments {rest[1:]}; see --help")
    return rest


def _with_config_files(argv: list[str]) -> list[str]:
    """The command line with the path of a file as the value of each `--config`.

    What follows a colon is an argument of the file's get_config and stays.
    """
    found, value_follows = [], False
    for argument in argv:
        name, equals, value = argument.partition("=")
        if value_follows:
            name, value = "", argument
        if value_follows or (equals and name in ("--config", "-config")):
            given, colon, rest = value.partition(":")
            argument = f"{name}{equals if name else ''}{find_config(given)}{colon}{rest}"
        value_follows = not value_follows and argument in ("--config", "-config")
        found.append(argument)
    return found


def start_logging() -> None:
    """Plain lines on standard error; the libraries' own talk only from warnings on."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    absl_logging.set_verbosity(absl_logging.WARNING)  # of Orbax and TFDS
    for library in ("jax", "matplotlib"):  # the second tells that it looks for fonts
        logging.getLogger(library).setLevel(logging.WARNING)


def run(main: Callable[[], int | None], failure: int = 1) -> None:
    """Runs a door's work and ends the process as the user should see it.

    A UserError, a full disk or a missing file is one line on standard error and status `failure`;
    with DENSITYJAX_DEBUG set, the traceback comes, too. Any other exception keeps its traceback: it
    is a fault of the program. A reader that closes the pipe early (`... | head`) is no error.
    """
    try:
        status = with_room(main)
        sys.stdout.flush()
        # Nothing alive is looked through again for garbage as the interpreter ends: 0.25 s.
        gc.freeze()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except (UserError, OSError) as error:
        if os.environ.get("DENSITYJAX_DEBUG"):
            raise
        if failure == 1:
            sys.exit(f"error: {error}")
        print(f"error: {error}", file=sys.stderr)
        status = failure
    if status:
        sys.exit(status)
