#!/usr/bin/env bash
# A run on all hosts of a TPU pod slice, step by step:
#   launch/tpu_pod.sh create  POD ZONE v5p-256 [RUNTIME]     make the slice (it costs from here on)
#   launch/tpu_pod.sh install POD ZONE                       copy this commit, make environments
#   launch/tpu_pod.sh start   POD ZONE CONFIG WORKDIR [...]  start a process on every host
#   launch/tpu_pod.sh logs    POD ZONE                       follow the log of host 0
#   launch/tpu_pod.sh stop    POD ZONE                       SIGTERM: the run saves and ends
#   launch/tpu_pod.sh delete  POD ZONE                       give the slice back
# WORKDIR and config.data.data_dir are on storage that all hosts mount (docs/scaling.md). Started
# again after a preemption, the run resumes. Needs gcloud. Not yet tried on a pod.
# DRY_RUN=1 prints the commands.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  sed -n '3,8p' "${BASH_SOURCE[0]}" | sed 's/^# *//; 1s/^/usage: /' >&2
  exit 2
}

run() {
  if [[ -n ${DRY_RUN:-} ]]; then
    echo "$*"
  else
    "$@"
  fi
}

[[ $# -ge 3 ]] || usage
action=$1 pod=$2 zone=$3
shift 3
tpu=(gcloud compute tpus tpu-vm)

on_hosts() {  # WORKER COMMAND
  run "${tpu[@]}" ssh "$pod" "--zone=$zone" "--worker=$1" "--command=$2"
}

case $action in
  create)
    [[ $# -ge 1 ]] || usage
    run "${tpu[@]}" create "$pod" "--zone=$zone" "--accelerator-type=$1" \
      "--version=${2:-v2-alpha-tpuv5}"
    ;;
  install)
    run git bundle create densityjax.bundle HEAD
    run "${tpu[@]}" scp densityjax.bundle "$pod:" "--zone=$zone" --worker=all
    # The Makefile makes CPU environments, so the extra is installed here, with a Python of uv's: the
    # hosts' own may be older than 3.11.
    remote='rm -rf densityjax && git clone -q densityjax.bundle densityjax && cd densityjax &&
      python3 -m pip install -q --user uv && python3 -m uv venv -q --python 3.12 .venv &&
      python3 -m uv pip install -q --python .venv/bin/python -e ".[tpu]" -c requirements/lock-py312.txt'
    on_hosts all "$remote"
    run rm -f densityjax.bundle
    ;;
  start)
    [[ $# -ge 2 ]] || usage
    config=$1 workdir=$2
    shift 2
    # setsid: the run outlives the connection. JAX finds the other hosts by itself.
    remote="cd densityjax && setsid nohup .venv/bin/python -m densityjax.main --config=$config"
    remote+=" --workdir=$workdir $* >> run.log 2>&1 < /dev/null &"
    on_hosts all "$remote"
    ;;
  logs) on_hosts 0 'tail -n 50 -F densityjax/run.log' ;;
  stop) on_hosts all 'pkill -TERM -f "[d]ensityjax.main" || true' ;;
  delete) run "${tpu[@]}" delete "$pod" "--zone=$zone" --quiet ;;
  *) usage ;;
esac
