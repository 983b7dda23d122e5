"""Builds a dataset: python -m tfds_builders elastic_densities/grid32 --data_dir=data."""

import argparse
import sys

import tfds_builders


def main() -> int:
    """Builds the dataset named on the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tfds_builders", description=__doc__)
    parser.add_argument("dataset", help="NAME/CONFIG, such as elastic_densities/grid32")
    parser.add_argument("--data_dir", default="data", help="where datasets lie (default: data)")
    parser.add_argument("--archive", help="build from this archive instead of the shipped one")
    args = parser.parse_args()
    try:
        builder = tfds_builders.load_builder(args.dataset, args.data_dir, args.archive)
        builder.download_and_prepare()
        print(tfds_builders.fingerprint(builder))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
