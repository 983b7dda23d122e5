"""Does a run that is killed again and again end with the bytes of one that was left alone?

Trains a small model of real records twice: once without interruption, and once SIGKILLed `--kills`
times at random moments (a share of them while a checkpoint is being written, seen by Orbax's
temporary directory) and started again each time by the same command. Then compares metrics.jsonl,
metrics.json, the predictions, and the SHA-256 of every array of the last and the best state.

    python -m benchmarks.crash_storm --kills=50 --json=benchmarks/results/crash_storm.json
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from absl import app, flags

from densityjax.runtime import environment, files

_KILLS = flags.DEFINE_integer("kills", 50, "SIGKILLs in all.")
_MINUTES = flags.DEFINE_float("minutes", 30.0, "No further kill after so many.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Holds elastic_densities/grid24, or will.")
_JSON = flags.DEFINE_string("json", None, "Write the result here.")

ROOT = Path(__file__).parents[1]
FILES = ("metrics.jsonl", "metrics.json", "predictions.csv", "predictions_validation.csv")
SETTINGS = (
    "data.train_folds=(2,)", "targets=('bulk_modulus','volume')", "view.size=8", "view.spacing=0.9",
    "view.validation_views=1", "view.evaluation_views=1", "model.widths=(4,)", "model.blocks=(0,)",
    "model.attention=()", "model.dilations=(1,)", "model.head_width=4", "train.epochs=240",
    "train.evaluate_every_epochs=4", "train.checkpoint_every_steps=5", "train.log_every_steps=4",
)


def command(workdir: Path) -> list[str]:
    """The run as a user starts it."""
    settings = [f"--config.{setting}" for setting in SETTINGS]
    return [
        sys.executable, "-m", "densityjax.main", "--config=configs/smoke.py", *settings,
        f"--config.data.data_dir={_DATA_DIR.value}", f"--workdir={workdir}",
    ]


def storm(workdir: Path, kills: int, rng: random.Random) -> list[dict[str, Any]]:
    """Starts and kills the command; what was killed when, in order."""
    done: list[dict[str, Any]] = []
    deadline = time.time() + 60 * _MINUTES.value
    while len(done) < kills and time.time() < deadline:
        # While writing, after some time of training, or at any time from the start of the process.
        kind = rng.choices(("writing", "training", "any"), (4, 4, 2))[0]
        delay = rng.uniform(0, 20 if kind == "any" else 4)
        parts = len(_facts(workdir).get("parts", ()))
        started, trained_since = time.time(), None
        with open(workdir.with_suffix(".log"), "ab") as output:
            process = subprocess.Popen(
                command(workdir), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
            )
        while process.poll() is None:
            now = time.time()
            if trained_since is None:
                facts = _facts(workdir)
                stepped = "first_step" in facts.get("seconds", {})
                if len(facts.get("parts", ())) > parts and stepped:
                    trained_since = now
            since = started if kind == "any" else trained_since
            if since is not None and now - since >= delay:
                writing = list((workdir / "checkpoints").glob("*/*orbax-checkpoint-tmp*"))
                if kind != "writing" or writing:
                    break
            time.sleep(0.001 if trained_since else 0.02)
        ended = process.poll()
        if ended == 0:
            print(f"the run finished after {len(done)} kills: more need more epochs")
            return done
        if ended is not None:
            raise SystemExit(f"the run ended with status {ended} after {len(done)} kills")
        process.send_signal(signal.SIGKILL)
        process.wait()
        left = [str(p.relative_to(workdir)) for p in workdir.glob("checkpoints/*/*-tmp*")]
        seconds = round(time.time() - started, 2)
        done.append({"kind": kind, "seconds": seconds, "half_written": left})
        print(len(done), done[-1], f"step {_last_step(workdir)}", flush=True)
    return done


def _facts(workdir: Path) -> dict[str, Any]:
    path = workdir / "run.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _last_step(workdir: Path) -> int:
    names = [p.name for p in workdir.glob("checkpoints/latest/*") if p.name.isdigit()]
    return max(map(int, names), default=0)


def digests(workdir: Path) -> dict[str, str]:
    """SHA-256 of every array of the last and the best state, as the checkpoints hold them.

    They were checked against the arrays when the best state was restored for evaluation.
    """
    found = {}
    for role in ("latest", "best"):
        step = max(int(p.name) for p in (workdir / "checkpoints" / role).iterdir()
                   if p.name.isdigit())
        path = workdir / "checkpoints" / role / str(step) / "manifest" / "metadata"
        for name, digest in json.loads(path.read_text())["digests"].items():
            found[f"{role} {step} {name}"] = digest
    return found


def main(_) -> None:
    """Prints and writes what was equal."""
    with tempfile.TemporaryDirectory() as folder:
        alone, killed = Path(folder) / "alone", Path(folder) / "killed"
        started = time.time()
        subprocess.run(command(alone), cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
        seconds_alone = time.time() - started
        started = time.time()
        kills = storm(killed, _KILLS.value, random.Random(_SEED.value))
        reached = _last_step(killed)
        subprocess.run(command(killed), cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
        equal = {n: (alone / n).read_bytes() == (killed / n).read_bytes() for n in FILES}
        expected, found = digests(alone), digests(killed)
        log = killed.with_suffix(".log").read_text(errors="replace")
        result = {
            "kills": len(kills),
            "kinds": dict(Counter(kill["kind"] for kill in kills)),
            "kills_with_a_half_written_checkpoint": sum(bool(k["half_written"]) for k in kills),
            "step_after_the_last_kill": reached,
            "steps": _facts(killed)["steps"],
            "starts_that_resumed": log.count("Resuming"),
            "damaged_checkpoints_passed_over": log.count("Damaged checkpoint"),
            "equal_files": equal,
            "arrays": len(expected),
            "equal_arrays": sum(found.get(name) == digest for name, digest in expected.items()),
            "seconds_uninterrupted": round(seconds_alone, 1),
            "seconds_storm": round(time.time() - started, 1),
            "seed": _SEED.value,
            "settings": SETTINGS,
            "environment": environment.describe_environment(_SEED.value),
            "moments": kills,
        }
    summary = {k: v for k, v in result.items() if k not in ("moments", "environment", "settings")}
    print(json.dumps(summary, indent=1))
    if _JSON.value:
        files.replace_json(Path(_JSON.value), result)
    if not all(equal.values()) or result["equal_arrays"] != len(expected):
        sys.exit("the killed run ended with something else")


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    app.run(main)
