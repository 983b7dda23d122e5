#!/usr/bin/env bash
# An ablation on one machine, as N processes that share the cores:
#   launch/ablation_local.sh configs/ablations/paper_cpu.py runs/paper_cpu 2 [more flags]
# DRY_RUN=1 prints the commands. PYTHON names the interpreter (.venv/bin/python where it is there).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ $# -lt 3 ]]; then
  echo "usage: $0 CONFIG WORKDIR PROCESSES [flags of densityjax.ablation]" >&2
  exit 2
fi
config=$1 workdir=$2 processes=$3
shift 3
if [[ -z ${PYTHON:-} ]]; then
  PYTHON=python3
  [[ -x .venv/bin/python ]] && PYTHON=.venv/bin/python
fi
cores=$(nproc)
share=$(( cores / processes > 0 ? cores / processes : 1 ))
pids=()
for (( i = 0; i < processes; i++ )); do
  first=$(( i * share % cores ))
  command=(taskset -c "$first-$(( first + share - 1 ))" "$PYTHON" -m densityjax.ablation
           "--config=$config" "--workdir=$workdir" "--shard=$i/$processes" "$@")
  if [[ -n ${DRY_RUN:-} ]]; then
    echo "${command[*]}"
  else
    mkdir -p "$workdir"
    "${command[@]}" > "$workdir/shard$i.log" 2>&1 &
    pids+=($!)
  fi
done
status=0
for pid in "${pids[@]}"; do
  wait "$pid" || status=1
done
if [[ -z ${DRY_RUN:-} ]]; then
  tail -n 5 "$workdir"/shard*.log
fi
exit $status
