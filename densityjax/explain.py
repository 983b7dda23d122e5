"""Where a prediction comes from: `densityjax explain FILE --target bulk_modulus`."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from densityjax.attribution.explain import (
    METHODS,
    Explanation,
    Settings,
    explain,
    write_explanation,
)
from densityjax.attribution.question import ask
from densityjax.attribution.references import REFERENCES, WORDS
from densityjax.attribution.run_maps import write_run_maps
from densityjax.attribution.stored import average_atoms_of
from densityjax.model.fixed_views import MAX_VIEWS
from densityjax.prediction.materials import read_material
from densityjax.prediction.model import open_model
from densityjax.report.page import write_report
from densityjax.report.text import with_unit
from densityjax.results.pretrained import add_model_options, chosen_model
from densityjax.runtime import command_line, compile_cache
from densityjax.runtime.errors import UserError
from densityjax.targets import TargetSpec


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m densityjax.explain",
        description="Says where in the cell a prediction comes from: a map (cube, CHGCAR, PNG) and "
        "a table of the atoms.",
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="a density, as predict takes it")
    add_model_options(parser)
    parser.add_argument("--target", help="which of its targets")
    parser.add_argument("--out", default="map", help="folder for the files (default: map)")
    parser.add_argument(
        "--method", choices=METHODS, default=METHODS[0],
        help="integrated_gradients and grad_cam are of the network, occlusion of all that answers",
    )
    parser.add_argument(
        "--reference", choices=REFERENCES, default=REFERENCES[0],
        help="; ".join(f"{name}: {words}" for name, words in WORDS.items()),
    )
    parser.add_argument(
        "--steps", type=_positive, default=16, help="along the path from the reference (16)"
    )
    parser.add_argument(
        "--views", type=_num_views, default=0,
        help="that are averaged (default: 32, or the run's if more)",
    )
    parser.add_argument(
        "--smooth", type=float, metavar="Å",
        help="standard deviation of a Gaussian that smooths the map, its sum kept (default: half "
        "a voxel of the view; 0: none)",
    )
    parser.add_argument(
        "--orders", type=int, default=16,
        help="of the atoms, which the shares in all that answers are averaged over (16; 0: none)",
    )
    parser.add_argument(
        "--report", action="store_true",
        help="instead of a FILE: the best and the worst prediction of every target of the test "
        "fold, for the run's page, which is written again",
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _num_views(text: str) -> int:
    if (count := _positive(text)) > MAX_VIEWS:
        raise argparse.ArgumentTypeError(f"{count} is more than {MAX_VIEWS}")
    return count


def lines_of(answer: Explanation, spec: TargetSpec) -> list[str]:
    """What a person reads first."""
    facts = answer.facts
    lines = [f"{facts['formula']}: {spec.label}, {facts['method'].replace('_', ' ')}"]
    if "reference" in facts:
        lines.append(
            f"prediction {with_unit(format(facts['prediction'], '.4g'), spec)}, of the reference "
            f"({facts['reference_is']}) {facts['reference_prediction']:.4g}"
        )
    if "completeness_error" in facts:
        lines.append(
            f"the map adds up to {facts['sum_of_map']:.4g}, through descriptors "
            f"{facts['through_descriptors']:.4g}; completeness error "
            f"{facts['completeness_error']:.2%}"
        )
    head = f"{'atom':>4} {'':3} {'share':>11} {'spread':>10} {'of answer':>11}"
    lines += [facts["said_by"], head]
    for row in answer.rows:
        cells = [
            "–" if row[key] is None else format(row[key], ".4g")
            for key in ("share", "spread", "answer_share")
        ]
        lines.append(
            f"{row['atom']:>4} {row['element']:3} {cells[0]:>11} {cells[1]:>10} {cells[2]:>11}"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line.

    Raises:
        UserError: nothing could be done.
    """
    options = _parser().parse_args(arguments)
    if options.report == (options.file is not None):
        raise UserError("name one FILE, or --report for the maps of a run's page")
    if options.report and not options.workdir:
        raise UserError("--report is of a finished run: name it with --workdir")
    if options.file is not None and not options.target:
        raise UserError("--target is missing: name the property to explain")
    compile_cache.enable()
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every step of a restore
    folder = chosen_model(options)
    model = open_model(folder)
    settings = Settings(
        options.method, options.reference, options.steps, options.smooth,
        orders=max(options.orders, 0),
    )
    atoms = average_atoms_of(model) if options.reference == "atoms" else None
    if options.report:
        targets = [options.target] if options.target else [spec.name for spec in model.specs]
        write_run_maps(model, targets, settings, atoms, options.views)
        print(write_report(model.path))
        return
    material = read_material(Path(options.file), model.grid)
    if isinstance(material, str):
        raise UserError(material)
    question = ask(model, material, options.target, options.views)
    answer = explain(question, settings, atoms)
    paths = write_explanation(Path(options.out), question, answer)
    print("\n".join([*lines_of(answer, question.spec), *map(str, paths)]))
    elsewhere = model.elsewhere(material).text
    for warning in [*([elsewhere] if elsewhere else []), *answer.warnings]:
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    command_line.run(main)
