"""configs/paper_nonmagnetic.py on a TPU pod of up to 256 cores, in bfloat16. Not run here; runs of
several hosts need jax.distributed, which is still to come.

Command, on every host:
python -m densityjax.main --config=configs/tpu_pod.py --workdir=/mnt/shared/tpu_pod
"""

from ml_collections import ConfigDict

from configs import gpu8


def get_config() -> ConfigDict:
    """configs/gpu8.py with one example and more per core."""
    config = gpu8.get_config()
    config.train.batch_size = 512
    config.optimizer.learning_rate = 8e-3
    config.optimizer.warmup_fraction = 0.1
    return config
