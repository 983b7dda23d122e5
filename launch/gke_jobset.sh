#!/usr/bin/env bash
# Applies launch/gke_jobset.yaml, e.g. a v5p slice of 4 x 4 x 8 chips, 32 hosts of 4:
#   launch/gke_jobset.sh NAME IMAGE CONFIG /mnt/shared/runs/NAME tpu-v5p-slice 4x4x8 32 4 \
#     [CLAIM [flags of densityjax.main]]
# CLAIM is the volume claim mounted at /mnt/shared (default: shared). DRY_RUN=1 prints the manifest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
if [[ $# -lt 8 ]]; then
  echo "usage: $0 NAME IMAGE CONFIG WORKDIR ACCELERATOR TOPOLOGY HOSTS CHIPS [CLAIM [flags]]" >&2
  exit 2
fi
flags=""
for flag in "${@:10}"; do
  flags+=", '${flag//\'/\'\'}'"  # quotes as YAML doubles them
done
manifest=$(grep -v '^#' gke_jobset.yaml)
names=(NAME IMAGE CONFIG WORKDIR ACCELERATOR TOPOLOGY HOSTS CHIPS CLAIM FLAGS)
values=("$1" "$2" "$3" "$4" "$5" "$6" "$7" "$8" "${9:-shared}" "$flags")
for place in "${!names[@]}"; do
  # Whole words: --config=CONFIG, not a value that happens to hold one.
  # shellcheck disable=SC2001
  manifest=$(sed "s|\b${names[place]}\b|${values[place]//[&|]/\\&}|" <<< "$manifest")
done
if [[ -n ${DRY_RUN:-} ]]; then
  echo "$manifest"
else
  kubectl apply -f - <<< "$manifest"
fi
