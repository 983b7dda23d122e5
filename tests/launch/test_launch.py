"""What the launch scripts would run, without running it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml  # comes with Flax

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted(path.name for path in LAUNCH.iterdir() if path.suffix in (".sh", ".sbatch"))


def dry_run(script: str, *arguments: str, **environment: str) -> list[str]:
    result = subprocess.run(
        ["bash", LAUNCH / script, *arguments], capture_output=True, text=True, timeout=30,
        env=os.environ | {"DRY_RUN": "1"} | environment, check=True,
    )
    return result.stdout.splitlines()


@pytest.mark.parametrize(
    ("script", "first"), [("ablation_local.sh", ()), ("ablation_pod.sh", ("pod", "zone", "3"))]
)
def test_every_shard_is_started_once(script: str, first: tuple[str, ...]):
    end = ("3",) if not first else ()
    lines = dry_run(script, *first, "configs/ablations/paper.py", "runs/paper", *end)
    assert [re.search(r"--shard=(\S+)", line).group(1) for line in lines] == ["0/3", "1/3", "2/3"]
    assert all("--config=configs/ablations/paper.py --workdir=runs/paper" in line for line in lines)


def test_a_task_of_an_array_takes_its_shard():
    (line,) = dry_run(
        "ablation.sbatch", "configs/ablations/paper.py", "runs/paper", "--config.replicates=9",
        SLURM_ARRAY_TASK_ID="4", SLURM_ARRAY_TASK_MIN="1", SLURM_ARRAY_TASK_COUNT="8",
        SLURM_SUBMIT_DIR=str(LAUNCH.parent),
    )
    assert line.endswith("--workdir=runs/paper --shard=3/8 --config.replicates=9")


@pytest.mark.parametrize("script", SCRIPTS)
def test_too_few_arguments(script: str):
    result = subprocess.run(["bash", LAUNCH / script], capture_output=True, text=True, timeout=30)
    assert result.returncode == 2
    assert "usage:" in result.stderr


def test_processes_of_one_machine_find_each_other():
    lines = dry_run("local.sh", "configs/smoke.py", "runs/x", "3", "--config.seed=1", PORT="4000")
    assert [re.search(r"JAX_PROCESS_ID=(\d)", line).group(1) for line in lines] == list("012")
    for line in lines:
        assert "JAX_COORDINATOR_ADDRESS=127.0.0.1:4000 JAX_NUM_PROCESSES=3" in line
        assert line.endswith("--config=configs/smoke.py --workdir=runs/x --config.seed=1")


def test_status_of_processes_of_one_machine(tmp_path: Path):
    """The first status that is not 0, and the output of every process under its number."""
    python = tmp_path / "python"
    python.write_text('#!/bin/bash\necho "$@"; exit $(( JAX_PROCESS_ID == 1 ? 75 : 0 ))\n')
    python.chmod(0o755)
    result = subprocess.run(
        ["bash", LAUNCH / "local.sh", "c.py", tmp_path / "run", "2"], capture_output=True,
        text=True, timeout=30, env=os.environ | {"PYTHON": str(python)},
    )
    assert result.returncode == 75
    lines = sorted(result.stdout.splitlines())
    assert [line[:5] for line in lines] == ["[0] -", "[1] -"]


@pytest.mark.parametrize(("status", "requeued"), [(75, True), (1, False)])
def test_slurm_requeues_what_was_preempted(tmp_path: Path, status: int, requeued: bool):
    for name, body in {"srun": f"exit {status}", "scontrol": 'echo "scontrol $*"'}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    result = subprocess.run(
        ["bash", LAUNCH / "slurm.sbatch", "configs/gpu8.py", "/shared/run"], capture_output=True,
        text=True, timeout=30,
        env=os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7",
            "SLURM_SUBMIT_DIR": str(tmp_path),
        },
    )
    assert result.returncode == status
    assert ("scontrol requeue 7" in result.stdout) == requeued
    assert "densityjax.main --config=configs/gpu8.py --workdir=/shared/run" in result.stdout


def test_life_of_a_pod():
    steps = {
        "create": ["v5p-256"], "install": [], "start": ["configs/tpu_pod.py", "/mnt/run", "--x"],
        "logs": [], "stop": [], "delete": [],
    }
    lines = {
        name: dry_run("tpu_pod.sh", name, "pod", "zone", *rest) for name, rest in steps.items()
    }
    for name, found in lines.items():
        assert all(" pod" in line for line in found if line.startswith("gcloud")), name
    assert "--accelerator-type=v5p-256" in lines["create"][0]
    assert "--worker=all" in lines["start"][0]
    assert "densityjax.main --config=configs/tpu_pod.py --workdir=/mnt/run --x" in lines["start"][0]
    assert sum("--worker=all" in line for line in lines["install"]) == 2


def test_manifest_of_a_cluster():
    arguments = ["run", "a/b:1", "configs/tpu_pod.py", "/mnt/shared/x", "tpu-v5p-slice", "4x4x8"]
    more = ("32", "4", "claim", "--config.targets=('volume',)")
    manifest = "\n".join(dry_run("gke_jobset.sh", *arguments, *more))
    (job,) = yaml.safe_load(manifest)["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert spec["parallelism"] == spec["completions"] == 32
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "a/b:1"
    assert container["args"] == [
        "--config=configs/tpu_pod.py", "--workdir=/mnt/shared/x", "--config.targets=('volume',)",
    ]
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "claim"}
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x4x8"
    assert not re.search(r"\b[A-Z]{4,}\b", yaml.safe_dump(job).replace("SIGTERM", ""))


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck():
    subprocess.run(["shellcheck", *(LAUNCH / script for script in SCRIPTS)], check=True)


def test_beam_runners_get_their_options():
    (line,) = dry_run("beam.sh", "flink", "/in", "/out", "flink_master=host:8081")
    assert line.startswith("python -m tfds_builders density_folder/grid32 --source=/in")
    options = "runner=FlinkRunner environment_type=LOOPBACK flink_master=host:8081"
    assert line.endswith(f"--beam {options}")
    with pytest.raises(subprocess.CalledProcessError) as error:
        dry_run("beam.sh", "dataflow", "/in", "/out", "region=x")
    assert "dataflow needs the option project" in error.value.stderr


def test_staging_takes_the_store_s_own_client():
    assert dry_run("stage_dataset.sh", "gs://b/d", "/d") == [
        "gcloud storage rsync --recursive gs://b/d /d"
    ]
    assert dry_run("stage_dataset.sh", "/a", "s3://b/d") == ["aws s3 sync /a s3://b/d"]
