"""Single-task against multi-task on elements that were never trained on.

Reproduces: how far densities carry to new chemistry (arXiv 2003.13425 saw them generalise better
than composition). All materials with the elements are the test set, whatever their fold.
Command: python -m densityjax.ablation --config=configs/ablations/leave_elements_out.py
  --workdir=runs/leave_elements_out
"""

from ml_collections import ConfigDict

from densityjax.configs.ablations import paper


def get_config() -> ConfigDict:
    """Splits by elements instead of folds."""
    config = paper.get_config()
    config.variants = ConfigDict({"single": {"groups": "single"}, "all": {"groups": "all"}})
    config.folds = ()
    config.held_out_elements = (("O",), ("Si", "Ge"), ("Fe", "Co", "Ni"))
    config.pools = ConfigDict()
    config.contrasts = ()
    return config
