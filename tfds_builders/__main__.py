"""Builds a dataset: python -m tfds_builders elastic_densities/grid32 --data_dir=data."""

import argparse
from collections.abc import Sequence
from typing import Any

import tfds_builders
from densityjax.runtime import command_line
from tfds_builders.errors import DatasetSourceError


def beam_config(options: Sequence[str]) -> Any:
    """TFDS's download config of a build with Apache Beam.

    Args:
        options: of the pipeline, 'runner=FlinkRunner' or 'streaming'.

    Raises:
        DatasetSourceError: Apache Beam is not installed, or does not know an option.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise DatasetSourceError(
            f"--beam needs Apache Beam ({error}): install densityjax[beam], see docs/ingest.md"
        ) from error
    import tensorflow_datasets as tfds  # takes a second, which --help must not

    parsed = PipelineOptions([f"--{option.removeprefix('--')}" for option in options])
    unknown = [
        option
        for option in options
        if option.partition("=")[0].removeprefix("--") not in parsed.get_all_options()
    ]
    if unknown:
        raise DatasetSourceError(f"--beam: Apache Beam knows no option {', '.join(unknown)}")
    return tfds.download.DownloadConfig(beam_options=parsed)


def main() -> None:
    """Builds the dataset named on the command line, and prints its fingerprint."""
    parser = argparse.ArgumentParser(prog="python -m tfds_builders", description=__doc__)
    parser.add_argument("dataset", help="NAME/CONFIG, such as elastic_densities/grid32")
    parser.add_argument("--data_dir", default="data", help="where datasets lie (default: data)")
    parser.add_argument("--archive", help="elastic_densities: not built from the shipped archive")
    parser.add_argument("--source", default="", help="the folder that a dataset is built from")
    parser.add_argument("--split", default="auto", help="density_folder: auto, fold, system or id")
    parser.add_argument("--strict", action="store_true", help="density_folder: stop at problems")
    parser.add_argument(
        "--labels", default="required",
        help="density_folder: required, optional, or none (every density, for pretraining)",
    )
    parser.add_argument(
        "--workers", type=int, default=0,
        help="density_folder: processes that read densities (default: one per core)",
    )
    parser.add_argument(
        "--beam",
        nargs="+",
        metavar="OPTION",
        default=(),
        help="density_folder, materials_project: build with Apache Beam, options of its pipeline "
        "without the leading --, such as runner=DirectRunner; see docs/ingest.md",
    )
    args = parser.parse_args()
    builder = tfds_builders.load_builder(
        args.dataset, args.data_dir, args.archive, source=args.source, split=args.split,
        strict=args.strict, workers=args.workers, labels=args.labels,
    )
    if args.beam and not builder.TAKES_BEAM:
        raise DatasetSourceError(f"--beam: dataset '{builder.name}' is built without Apache Beam")
    options = {"download_config": beam_config(args.beam)} if args.beam else {}
    builder.download_and_prepare(**options)
    print(tfds_builders.fingerprint(builder))


if __name__ == "__main__":
    command_line.run(main)
