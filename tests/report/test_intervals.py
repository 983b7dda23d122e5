"""The page says of intervals what intervals.json says."""

import json
import shutil
from pathlib import Path

from densityjax.report.intervals import interval_rows
from densityjax.report.page import write_report
from densityjax.report.run_files import read_run
from densityjax.training.calibrate import calibrate_run


def test_the_page_tells_how_intervals_fared(smoke_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(smoke_run, run)
    assert interval_rows(read_run(run)) == {}
    assert "Intervals, test fold" not in write_report(run).read_text()
    calibrate_run(run)
    page = write_report(run).read_text()
    assert "Intervals, test fold" in page
    content = json.loads((run / "intervals.json").read_text())["targets"]
    rows = interval_rows(read_run(run))
    assert {row["spec"].name for row in rows["regression"] + rows["classes"]} == set(content)
    assert len(rows["least_sure"]) == 3 * len(rows["regression"])
    for row in rows["regression"]:
        own = content[row["spec"].name]
        assert row["coverage"] in page
        assert row["coverage"].startswith(f"{100 * own['coverage']:.1f} %")
        # The promise is kept within what the size of fold and calibration leave to chance.
        assert 0.8 < own["coverage"] < 0.99
        assert own["low"] < own["coverage"] < own["high"]
        assert sum(own["parts"][f"distance, fifth {k}"]["n"] for k in range(1, 6)) == own["n"]
    assert (run / "report/interval_coverage.png").exists()
