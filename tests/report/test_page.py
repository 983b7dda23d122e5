"""The report of a small run: complete, self-contained, escaped, and clear about what is missing."""

import base64
import csv
import dataclasses
import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from densityjax.report.__main__ import main
from densityjax.report.page import page_values, write_report
from densityjax.report.run_files import read_run
from densityjax.results.baselines import Rows, baseline_metrics
from densityjax.results.metrics import average_r2, target_metrics
from densityjax.results.predictions_table import COLUMNS
from densityjax.runtime import command_line
from densityjax.runtime.errors import UserError
from densityjax.targets import get_specs, specs_to_json

SPECS = get_specs(["bulk_modulus", "volume", "debye_temperature", "is_metal", "crystal_system"])
EVIL = "Al2<script>alert('$x')</script>"
FILES = ("config.json", "run.json", "metrics.json", "metrics.jsonl", "predictions.csv")
VOID = {"meta", "img", "br", "link", "input", "hr"}


def _rows(rng, n):
    labels = {
        "bulk_modulus": rng.uniform(20, 300, n), "volume": rng.uniform(10, 200, n),
        "debye_temperature": np.where(np.arange(n) % 3 == 0, rng.uniform(100, 900, n), np.nan),
        "is_metal": np.arange(n) % 2, "crystal_system": rng.integers(-1, 7, n),
    }
    volume = np.array(labels["volume"])
    return Rows(labels, 0.2 + labels["bulk_modulus"] / 500, volume, {"volume": volume})


def _write_run(folder):
    """A run directory as training leaves it, with noise in place of a network."""
    rng = np.random.default_rng(0)
    train, splits = _rows(rng, 60), {"test": _rows(rng, 24), "validation": _rows(rng, 20)}
    metrics = {"baselines": {}, "average": {}, "best_step": 35, "view": "fractional"}
    for split, rows in splits.items():
        metrics["baselines"][split] = baseline_metrics(train, rows, SPECS)
        metrics[split], table = {}, []
        for spec in SPECS:
            truth = rows.labels[spec.name]
            if spec.kind == "regression":
                values = np.nan_to_num(truth, nan=50.0) + rng.normal(0, 20, truth.size)
                shown = [("" if np.isnan(t) else t, v, "") for t, v in zip(truth, values)]
            else:
                values = rng.dirichlet(np.ones(len(spec.classes)), truth.size)
                shown = [
                    (spec.classes[t] if t >= 0 else "", spec.classes[v.argmax()],
                     ";".join(map(str, v))) for t, v in zip(truth, values)
                ]
            metrics[split][spec.name] = target_metrics(spec, truth, values)
            metrics[split][spec.name] |= {"spread_over_views": 0.123, "relative_spread": 0.0456}
            for i, (t, v, p) in enumerate(shown):
                table.append((f"mp-{i}", EVIL if i < 12 else "Mg2Si", spec.name, t, v, 0.1, p))
        metrics["average"][split] = {
            "r2": average_r2(metrics[split], SPECS),
            "r2_without_identities": average_r2(metrics[split], SPECS, identities=False),
        }
        if split == "test":
            with (folder / "predictions.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(COLUMNS)
                writer.writerows(table)
    run = {
        "started": "2026-01-01T10:00:00", "finished": "2026-01-01T10:05:00", "seed": 7,
        "versions": {"jax": "0.10.2"}, "xla_flags": "", "commit": "abc123<i>", "hostname": "h",
        "platform": "cpu", "device_kind": "Some CPU", "num_devices": 1, "cpu_count": 2,
        "parameters": 12345, "seconds_per_epoch": 3.21, "peak_memory_gib": None,
        "seconds": {"build": 1.0, "compile": 2.0, "train": 287.0, "evaluate": 3.0, "total": 300.0},
        "dataset": {
            "name": "elastic_densities/grid24", "version": "1.0.0", "fingerprint": "f00",
            "train_examples": 60, "validation_examples": 20, "test_examples": 24,
            "train_folds": [2, 3, 4], "validation_fold": 1, "test_fold": 0,
        },
    }
    history = []
    for step in (10, 20, 30, 40, 30, 40):  # resumed at 20
        history += [
            {"step": step, "epoch": step / 4, "split": "train", "loss": 1 / step},
            {"step": step, "epoch": step / 4, "split": "validation", "loss": 2 / step,
             "bulk_modulus/r2": 1 - 5 / step, "is_metal/roc_auc": None, "average_r2": 0.1},
        ]
    config = {"targets": [s.name for s in SPECS], "optimizer": {"learning_rate": 0.00123}}
    for name, value in (("metrics", metrics), ("run", run), ("config", config)):
        (folder / f"{name}.json").write_text(json.dumps(value, allow_nan=False))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small_run")
    _write_run(folder)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(workdir):
    return (workdir / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def copy(workdir, tmp_path):
    for name in FILES:
        shutil.copy(workdir / name, tmp_path)
    return tmp_path


def _numbers(data):
    if isinstance(data, dict):
        for key, value in data.items():
            if key not in ("confusion", "prevalence"):
                yield from _numbers(value)
    elif isinstance(data, float | int):
        yield data


def test_every_target_and_number_of_the_metrics_is_on_the_page(page, workdir):
    """As the template gets them, rounded to three digits; each text stands on the page."""
    run = read_run(workdir)
    values = page_values(run)
    texts = [text for _, text in values["facts"]]
    for split in run.splits:
        texts += [text for row in values["regression"][split] for key in ("r2", "mae", "rmse")
                  for text, _ in row[key].values()]
        texts += [row["n"] for row in values["regression"][split] + values["classes"][split]]
        texts += [text for _, cells in values["averages"][split] for text, _ in cells.values()]
        texts += [text for block in values["classes"][split] for _, cells in block["rows"]
                  for text, _ in cells]
    plain = html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))
    assert all(text in plain for text in texts)
    assert all(spec.label in plain for spec in SPECS)
    shown = np.array([
        float(text.replace("−", "-").replace(",", ""))
        for text in texts + [row[key] for row in values["spread"] for key in ("mean", "relative")]
        if re.fullmatch(r"[−\d.,]+", text)
    ])
    metrics = json.loads((workdir / "metrics.json").read_text())
    for value in _numbers({k: metrics[k] for k in ("test", "average", "baselines")}):
        near = np.abs(shown - value) <= np.maximum(5.01e-3 * abs(value), 5.01e-4)
        assert near.any(), f"{value} is not on the page"
    for share in metrics["test"]["is_metal"]["prevalence"].values():
        assert f"{100 * share:.1f}\u00a0%" in plain
    assert values["config"]["optimizer.learning_rate"] == 0.00123
    assert ("training time", "4 min 47 s") in values["facts"]


def test_page_needs_nothing_else(page, workdir):
    text = re.sub(r"data:image/png;base64,[^\"]+", "", page)
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|url\(|<iframe", text)
    sources = re.findall(r'<img[^>]* src="([^"]+)"', page)
    alts = re.findall(r'<img[^>]* alt="([^"]+)"', page)
    assert len(alts) == len(sources) == page.count("<img")
    embedded = {base64.b64decode(s.removeprefix("data:image/png;base64,")) for s in sources}
    files = {path.read_bytes() for path in (workdir / "report").glob("*.png")}
    assert embedded == files
    names = {path.stem for path in (workdir / "report").glob("*.png")}
    assert names == {
        "loss", "validation_bulk_modulus", "parity_bulk_modulus", "parity_volume",
        "parity_debye_temperature", "roc_is_metal", "confusion_is_metal",
        "confusion_crystal_system",
    }


def test_tags_are_balanced(page):
    class Checker(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attrs):
            if tag not in VOID:
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    checker = Checker()
    checker.feed(page)
    assert checker.open == []


def test_text_from_the_run_is_escaped(page):
    assert "<script" not in page
    assert "Al<sub>2</sub>&lt;script&gt;" in page
    assert "abc123&lt;i&gt;" in page


def test_best_values_are_marked(page, workdir):
    """Volume: the identity is exact, so its error 0 is the best; the model's is not."""
    rows = page_values(read_run(workdir))["regression"]["test"]
    row = next(row for row in rows if row["spec"].name == "volume")
    assert row["r2"]["identity"] == ("1.000", True)
    assert row["mae"]["identity"] == ("0", True)
    assert not row["mae"]["model"][1]
    assert "<strong>1.000</strong>" in page


def test_largest_errors_and_confident_mistakes(workdir):
    """Against the rows of the table, read without the package."""
    values = page_values(read_run(workdir))
    with (workdir / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["truth"]]
    bulk = [row for row in rows if row["target"] == "bulk_modulus"]
    bulk.sort(key=lambda row: -abs(float(row["prediction"]) - float(row["truth"])))
    (group,) = [g for g in values["errors"] if g[0]["spec"].name == "bulk_modulus"]
    assert [row["id"] for row in group] == [row["id"] for row in bulk[:3]]
    wrong = [r for r in rows if r["target"] == "is_metal" and r["truth"] != r["prediction"]]
    wrong.sort(key=lambda row: -max(map(float, row["probabilities"].split(";"))))
    found = [row for row in values["mistakes"] if row["spec"].name == "is_metal"]
    assert [(row["id"], row["truth"], row["prediction"]) for row in found] == [
        (row["id"], row["truth"], row["prediction"]) for row in wrong[:3]
    ]


def test_csv_holds_the_metrics_in_full(workdir):
    metrics = json.loads((workdir / "metrics.json").read_text())
    with (workdir / "report" / "metrics.csv").open() as file:
        rows = {
            (r["split"], r["method"], r["target"], r["metric"]): r["value"]
            for r in csv.DictReader(file)
        }
    expected = metrics["test"]["bulk_modulus"]["rmse"]
    assert float(rows["test", "model", "bulk_modulus", "rmse"]) == expected
    ridge = metrics["baselines"]["validation"]["ridge"]["is_metal"]["roc_auc"]
    assert float(rows["validation", "ridge", "is_metal", "roc_auc"]) == ridge
    curves = (workdir / "report" / "learning_curves.csv").read_text().splitlines()
    assert len(curves) == 1 + 2 * 4  # the repeated steps of the resumed run count once


def test_same_run_gives_the_same_page(copy, page, workdir):
    # The title is the name of the directory.
    again = write_report(copy).read_text(encoding="utf-8")
    assert again.replace(copy.name, workdir.name) == page


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_one_clear_error(copy, name):
    (copy / name).unlink()
    with pytest.raises(UserError, match=rf"{re.escape(name)} is missing: .* train it first"):
        write_report(copy)
    assert not (copy / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("metrics.json", "}", "", "metrics.json is not valid JSON"),
        ("predictions.csv", "mp-3,", "", "predictions.csv line 5 has 6 cells, not 7"),
        ("metrics.jsonl", '"split": "train"', '"split', "metrics.jsonl line 1 is not valid JSON"),
        ("metrics.json", '"best_step"', '"step"', "metrics.json has no field 'best_step'"),
        ("run.json", '"train_folds"', '"folds"', "run.json has no field 'dataset.train_folds'"),
        ("predictions.csv", "spread", "width", r"predictions.csv lacks the columns \['spread'\]"),
        ("predictions.csv", "bulk_modulus", "band_gap", "'band_gap', metrics.json does not"),
    ],
)
def test_damaged_file_is_one_clear_error(copy, name, old, new, message):
    path = copy / name
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        write_report(copy)


def test_command_line(copy, capsys):
    main([f"--workdir={copy}"])
    assert capsys.readouterr().out.strip() == str(copy / "report.html")
    with pytest.raises(SystemExit, match=r"error: .*nowhere/config\.json is missing"):
        command_line.run(lambda: main(["--workdir=nowhere"]))


def test_a_name_of_a_target_leaves_no_folder(copy):
    """targets.json of a stranger: every file stays in report/, and none has too long a name."""
    evil, long = "a/../../../ESCAPED", "x" * 300
    names = {"bulk_modulus": evil, "volume": long}
    specs = [dataclasses.replace(s, name=names.get(s.name, s.name)) for s in SPECS]
    (copy / "targets.json").write_text(json.dumps(specs_to_json(specs)))
    for name in FILES[2:]:
        text = (copy / name).read_text()
        text = re.sub(r"\bbulk_modulus\b", evil, text)
        (copy / name).write_text(re.sub(r"(?<=[\",])volume(?=[\",/])", long, text))
    before = {path for path in copy.parent.rglob("*")}
    write_report(copy)
    new = {path for path in copy.parent.rglob("*")} - before
    assert {path.parent for path in new} <= {copy, copy / "report"}
    assert len(list((copy / "report").glob("parity_*.png"))) == 3


def test_the_report_needs_no_jax():
    """So that drawing, and what takes colours and numbers from it, starts at once."""
    code = "import sys, densityjax.report.page; print('jax' in sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_targets_without_labels_and_a_single_epoch(copy):
    """The smallest smoke run: undefined metrics are dashes, empty figures are no errors."""
    with (copy / "predictions.csv").open() as file:
        rows = list(csv.reader(file))
    for row in rows[1:]:
        row[3] = ""
    with (copy / "predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    metrics = json.loads((copy / "metrics.json").read_text())
    empty = _rows(np.random.default_rng(0), 24)
    for spec in SPECS:
        missing = np.full(24, np.nan if spec.kind == "regression" else -1)
        values = np.ones((24, len(spec.classes))) if spec.classes else np.ones(24)
        metrics["test"][spec.name] = target_metrics(spec, missing, values)
        empty.labels[spec.name] = missing
    metrics["baselines"]["test"] = baseline_metrics(
        _rows(np.random.default_rng(1), 9), empty, SPECS
    )
    metrics["average"]["test"] = {"r2": None, "r2_without_identities": None}
    (copy / "metrics.json").write_text(json.dumps(metrics))
    lines = (copy / "metrics.jsonl").read_text().splitlines()[:2]
    (copy / "metrics.jsonl").write_text("\n".join(lines))
    assert "<td>–</td>" in write_report(copy).read_text(encoding="utf-8")
