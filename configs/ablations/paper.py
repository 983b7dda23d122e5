"""Does training targets together help, and does it matter which go together? (the paper's claim)

Reproduces: the comparison of single-task, multi-task and grouped training of arXiv 2510.13207, on
1,151 crystals, over all folds and three seeds, beside random groups of the same sizes.
Command: python -m densityjax.ablation --config=configs/ablations/paper.py --workdir=runs/paper
"""

from ml_collections import ConfigDict

from densityjax.configs import elastic_paper


def get_config() -> ConfigDict:
    """Every key of every ablation is declared here."""
    config = ConfigDict()
    config.base = elastic_paper.get_config()  # what the variants change
    config.base.yardsticks = ()  # no variant changes them
    # Name -> the keys of base in which it differs. Names become directories.
    config.variants = ConfigDict({
        "single": {"groups": "single"},
        "all": {"groups": "all"},
        "similarity": {"groups": "configs/target_groups.py"},
        "random_0": {"groups": "random 0 of configs/target_groups.py"},
        "random_1": {"groups": "random 1 of configs/target_groups.py"},
        "random_2": {"groups": "random 2 of configs/target_groups.py"},
    })
    config.reference = "single"  # what the others are compared with
    # Draws of one thing: a row for their mean, e.g. {'random': ('random_0', 'random_1')}.
    config.pools = ConfigDict({"random": ("random_0", "random_1", "random_2")})
    # Further pairs to compare, the second being the yardstick.
    config.contrasts = (("similarity", "random"), ("similarity", "all"))

    # Test fold f, validation fold f + 1, the other ones train.
    config.folds = (0, 1, 2, 3, 4)
    config.num_folds = 5  # that the dataset has
    config.held_out_elements = ()  # further splits, e.g. (('O',), ('Fe', 'Co', 'Ni'))
    config.seeds = (0, 1, 2)

    # Each trunk tries these values with its first seed and keeps the one with the least validation
    # loss: the same effort for one target as for eight. key '': no tuning.
    config.tuning = ConfigDict()
    config.tuning.key = "optimizer.learning_rate"
    config.tuning.candidates = (1e-3, 2e-3, 4e-3)

    config.replicates = 10_000  # of the bootstrap
    return config.lock()
