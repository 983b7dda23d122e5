"""The command `densityjax` (or `python -m densityjax`): each sub-command opens one of the doors.

A door is imported when it is asked for, so that --help and --version answer at once.
"""

import difflib
import gc
import runpy
import sys
from importlib import metadata

DOORS = {
    "train": ("densityjax.main", "train a config, evaluate it and write its report"),
    "predict": ("densityjax.predict", "predict density files with a trained model"),
    "explain": ("densityjax.explain", "say where in the cell a prediction comes from"),
    "export": ("densityjax.export", "make a folder from a finished run that predicts elsewhere"),
    "calibrate": ("densityjax.calibrate", "make a finished run ready to predict intervals"),
    "pretrain": ("densityjax.pretrain", "learn from densities without labels, to start from"),
    "inspect": ("densityjax.inspect", "say what density files hold"),
    "groups": ("densityjax.target_grouping", "find which targets to train together"),
    "modules": ("densityjax.modules", "train modules of properties, compose them for a new one"),
    "ablation": ("densityjax.ablation", "train the variants of a config and compare them"),
    "report": ("densityjax.report", "write the page of a finished run again"),
}


def usage() -> str:
    """The sub-commands, a line each."""
    lines = [f"  {name:10}{about} ({module})" for name, (module, about) in DOORS.items()]
    return "\n".join([
        "usage: densityjax COMMAND ..., or densityjax COMMAND --help",
        "",
        *lines,
        "",
        "e.g. densityjax train --config=elastic --workdir=runs/elastic",
        "Each is also run by its module: python -m densityjax.main --config=...",
    ])


def main() -> None:
    """Runs the door that the first argument names, as `python -m` would."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("-h", "--help", "help"):
        print(usage())
    elif name == "--version":
        print(f"densityjax {metadata.version('densityjax')}")
    elif name in DOORS:
        del sys.argv[1]
        # Imports and traces make hundreds of thousands of objects, none of them garbage. With
        # Python's threshold looking for it takes a quarter of a second before anything is done.
        gc.set_threshold(100_000)
        # With its name and place as the main module: absl shows the flags and the text of that
        # one, and the processes that a door starts import it.
        runpy.run_module(DOORS[name][0], run_name="__main__", alter_sys=True)
    elif name:
        close = difflib.get_close_matches(name, DOORS, n=2)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        sys.exit(f"error: unknown command {name!r}; {hint}Commands: {', '.join(DOORS)}")
    else:
        sys.exit(usage())


if __name__ == "__main__":
    main()
