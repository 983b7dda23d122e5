"""The paper's comparison at the size of two CPU cores, in under 90 minutes.

Reproduces: configs/ablations/paper.py with a smaller trunk, a coarser view and fewer epochs.
Result: docs/results/paper_cpu/README.md; 84 min 33 s on 2 cores (324 runs), measured once.
Command: launch/ablation_local.sh configs/ablations/paper_cpu.py runs/paper_cpu 2
  (or, in one process, python -m densityjax.ablation --config=configs/ablations/paper_cpu.py
  --workdir=runs/paper_cpu)
"""

from ml_collections import ConfigDict

from densityjax.configs.ablations import paper


def get_config() -> ConfigDict:
    """configs/ablations/paper.py, cut to what two cores train in the time."""
    config = paper.get_config()
    base = config.base
    base.view.size = 12
    base.view.spacing = 0.6
    base.view.validation_views = 4
    base.view.evaluation_views = 4
    base.model.widths = (16, 32)
    base.model.blocks = (1, 1)
    base.train.epochs = 20
    config.tuning.candidates = (2e-3, 4e-3)
    return config
