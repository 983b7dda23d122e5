"""One, two, four or eight targets on a trunk: does each added target help?

Reproduces: the gain with the number of targets of arXiv 2510.13207. The groups are nested, so each
target meets the same company again when the group doubles.
Command: python -m densityjax.ablation --config=configs/ablations/number_of_targets.py
  --workdir=runs/number_of_targets
"""

from ml_collections import ConfigDict

from densityjax.configs.ablations import paper


def get_config() -> ConfigDict:
    """Nested partitions of the paper's eight targets."""
    config = paper.get_config()
    names = tuple(config.base.targets)

    def groups_of(size: int) -> str:
        starts = range(0, len(names), size)
        return ",".join("+".join(names[start : start + size]) for start in starts)

    config.variants = ConfigDict({f"{n}_together": {"groups": groups_of(n)} for n in (1, 2, 4, 8)})
    config.reference = "1_together"
    config.pools = ConfigDict()
    config.contrasts = (("4_together", "2_together"), ("8_together", "4_together"))
    return config
