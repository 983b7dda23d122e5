#!/usr/bin/env bash
# Copies a built dataset between an object store and a local disk, which array_record needs:
# launch/stage_dataset.sh FROM TO; gs:// by gcloud, s3:// by aws, else rsync. DRY_RUN=1 only prints.
set -euo pipefail

if (( $# != 2 )); then
  echo "usage: launch/stage_dataset.sh FROM TO" >&2
  exit 2
fi
case "$1 $2" in
  *gs://*) command=(gcloud storage rsync --recursive "$1" "$2") ;;
  *s3://*) command=(aws s3 sync "$1" "$2") ;;
  *) command=(rsync --archive "$1/" "$2/") ;;
esac
if [[ -n ${DRY_RUN:-} ]]; then
  echo "${command[*]}"
else
  [[ $2 == *://* ]] || mkdir -p "$2"
  exec "${command[@]}"
fi
