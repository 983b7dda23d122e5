"""A pretraining run of densities that have no labels, and what its run.json says of them."""

import numpy as np
import pytest

from densityjax.configs.pretrain import masked
from densityjax.runtime.errors import ConfigError
from densityjax.step import parallel
from densityjax.training.compatibility import identity
from densityjax.training.run import train_and_evaluate
from densityjax.training.setup import prepare_run
from tests.data.test_unlabelled import chgcar, folder_of
from tests.small_model import SMALL_MODEL

ELEMENTS = ("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr")


@pytest.mark.slow
def test_a_step_on_a_folder_without_labels_and_a_source(tmp_path):
    own = {f"{e}.CHGCAR": chgcar(e, electrons=8 + n) for n, e in enumerate(ELEMENTS)}
    more = {f"more-{e}.CHGCAR": chgcar(e, electrons=7) for e in (*ELEMENTS, "Si", "Ge", "Al")}
    config = masked.get_config()
    config.update_from_flattened_dict(SMALL_MODEL)
    config.data.name, config.data.data_dir = "density_folder/grid24", str(tmp_path / "data")
    config.data.source = str(folder_of(tmp_path / "own", own))
    entry = f"density_folder/grid24={folder_of(tmp_path / 'more', more)}"
    config.pretraining.sources = (entry,)
    config.pretraining.exclude = str(tmp_path / "mine.txt")
    (tmp_path / "mine.txt").write_text("more-Ge\nmore-Ga\n")
    config.pretraining.block, config.pretraining.decoder_width = 1.8, 4
    config.train.batch_size, config.train.epochs = 8, 1
    for block in ("invariants", "identified"):
        config.input[block] = 0
    config.yardsticks = config.stack.learners = ()
    run = prepare_run(config, tmp_path / "run")
    learned = run.splits["train"]
    held = set(run.splits["validation"].chemical_system.tolist())
    assert held
    assert held.isdisjoint(learned.chemical_system.tolist())
    assert "more-Ge" not in learned.material_id
    assert {"more-Si", "more-Al"} <= set(learned.material_id.tolist())
    found = run.dataset["pretraining"]
    assert found["unknown_names"] == ["more-Ga"]
    counts = found["datasets"][entry]
    assert counts["records"] + counts["withheld"] == len(more)
    assert identity(config, run.dataset)["dataset.sources"] == found["digest"]
    state = parallel.replicate(run.initial_state())
    state, metrics = run.train_step(state, parallel.split_batch(run.source[0], 1))
    assert np.isfinite(metrics["loss"])
    assert int(state.step) == 1
    # With targets, densities without labels are refused.
    config.targets = ("volume",)
    with pytest.raises(ConfigError, match=r"config\.pretraining\.sources is for densityjax"):
        train_and_evaluate(config, tmp_path / "other")
