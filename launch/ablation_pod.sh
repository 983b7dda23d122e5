#!/usr/bin/env bash
# An ablation on the hosts of a TPU pod, each training its share alone; WORKDIR is on storage that
# all hosts mount:
#   launch/ablation_pod.sh POD ZONE HOSTS configs/ablations/paper.py /mnt/shared/paper [more flags]
# Needs gcloud and the repository, with its environment, in ~/densityjax of every host. Not yet tried
# on a pod. DRY_RUN=1 prints the commands.
set -euo pipefail
if [[ $# -lt 5 ]]; then
  echo "usage: $0 POD ZONE HOSTS CONFIG WORKDIR [flags of densityjax.ablation]" >&2
  exit 2
fi
pod=$1 zone=$2 hosts=$3 config=$4 workdir=$5
shift 5
pids=()
for (( i = 0; i < hosts; i++ )); do
  # One host's chips are one machine: without these variables JAX would wait for the other hosts.
  remote="cd ~/densityjax && TPU_PROCESS_BOUNDS=1,1,1 TPU_CHIPS_PER_PROCESS_BOUNDS=2,2,1"
  remote+=" .venv/bin/python -m densityjax.ablation --config=$config --workdir=$workdir"
  remote+=" --shard=$i/$hosts $*"
  command=(gcloud compute tpus tpu-vm ssh "$pod" "--zone=$zone" "--worker=$i" "--command=$remote")
  if [[ -n ${DRY_RUN:-} ]]; then
    echo "${command[*]}"
  else
    "${command[@]}" &
    pids+=($!)
  fi
done
status=0
for pid in "${pids[@]}"; do
  wait "$pid" || status=1
done
exit $status
