#!/usr/bin/env bash
# One run as N processes of this machine that share its cores, as a pod's hosts would:
#   launch/local.sh configs/smoke.py runs/smoke 2 [more flags of densityjax.main]
# All processes end when one does. Run again, it resumes. DRY_RUN=1 prints the commands. PYTHON names
# the interpreter (.venv/bin/python where it is there), PORT the coordinator's port.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ $# -lt 3 ]]; then
  echo "usage: $0 CONFIG WORKDIR PROCESSES [flags of densityjax.main]" >&2
  exit 2
fi
config=$1 workdir=$2 processes=$3
shift 3
if [[ -z ${PYTHON:-} ]]; then
  PYTHON=python3
  [[ -x .venv/bin/python ]] && PYTHON=.venv/bin/python
fi
pids=()
for (( i = 0; i < processes; i++ )); do
  command=(env "JAX_COORDINATOR_ADDRESS=127.0.0.1:${PORT:-47631}" "JAX_NUM_PROCESSES=$processes"
           "JAX_PROCESS_ID=$i" "$PYTHON" -m densityjax.main "--config=$config"
           "--workdir=$workdir" "$@")
  if [[ -n ${DRY_RUN:-} ]]; then
    echo "${command[*]}"
  else
    mkdir -p "$workdir"
    "${command[@]}" > >(sed "s/^/[$i] /") 2>&1 &
    pids+=($!)
  fi
done
[[ -n ${DRY_RUN:-} ]] && exit 0
# A signal reaches the processes, which save and end with status 75.
trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' TERM INT
status=0
for pid in "${pids[@]}"; do
  code=0
  wait "$pid" || code=$?
  while (( code > 128 )) && kill -0 "$pid" 2>/dev/null; do  # a signal only ended the waiting
    code=0
    wait "$pid" || code=$?
  done
  (( status == 0 )) && status=$code
done
exit "$status"
