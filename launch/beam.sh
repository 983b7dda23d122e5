#!/usr/bin/env bash
# Builds density_folder with Apache Beam: launch/beam.sh RUNNER SOURCE DATA_DIR [OPTION...]
# RUNNER: local, dataflow, flink or spark; OPTION: of Beam's pipeline, without --. SOURCE and DATA_DIR
# are on a disk that all workers share (docs/ingest.md). GRID=32; DRY_RUN=1 only prints.
set -euo pipefail

if (( $# < 3 )); then
  echo "usage: launch/beam.sh local|dataflow|flink|spark SOURCE DATA_DIR [OPTION...]" >&2
  exit 2
fi
runner=$1 source=$2 data_dir=$3
shift 3
case $runner in
  local) options=(runner=DirectRunner direct_running_mode=multi_processing direct_num_workers=0) ;;
  dataflow) options=(runner=DataflowRunner) required=(project region temp_location) ;;
  flink) options=(runner=FlinkRunner environment_type=LOOPBACK) required=(flink_master) ;;
  spark) options=(runner=SparkRunner environment_type=LOOPBACK) required=(spark_master_url) ;;
  *) echo "error: runner '$runner' is not local, dataflow, flink or spark" >&2; exit 2 ;;
esac
for name in ${required[@]+"${required[@]}"}; do
  if [[ " $* " != *" $name="* ]]; then
    echo "error: $runner needs the option $name=..." >&2
    exit 2
  fi
done
command=(python -m tfds_builders "density_folder/grid${GRID:-32}" "--source=$source"
  "--data_dir=$data_dir" --beam "${options[@]}" "$@")
if [[ -n ${DRY_RUN:-} ]]; then
  echo "${command[*]}"
else
  exec "${command[@]}"
fi
