"""configs/paper_nonmagnetic.py on eight GPUs and more, in bfloat16. Not run here.

Command, on one host: python -m densityjax.main --config=configs/gpu8.py --workdir=runs/gpu8
On several: sbatch --nodes=2 launch/slurm.sbatch configs/gpu8.py /shared/runs/gpu8
"""

from ml_collections import ConfigDict

from densityjax.configs import paper_nonmagnetic


def get_config() -> ConfigDict:
    """A larger batch, with the learning rate that goes with it (square root of its growth)."""
    config = paper_nonmagnetic.get_config()
    config.model.dtype = "bfloat16"
    config.train.batch_size = 128
    config.optimizer.learning_rate = 4e-3
    return config
