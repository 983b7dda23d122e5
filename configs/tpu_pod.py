"""configs/paper_nonmagnetic.py on a TPU slice of up to 512 chips, in bfloat16. Not run on one.

Reproduces: the paper's setting, see there. Cost: not known; docs/scaling.md has a plan on paper.
Command: launch/tpu_pod.sh start POD ZONE configs/tpu_pod.py /mnt/shared/tpu_pod
starts this on every host, as launch/gke_jobset.sh does on Kubernetes:
python -m densityjax.main --config=configs/tpu_pod.py --workdir=/mnt/shared/tpu_pod
"""

from ml_collections import ConfigDict

from densityjax.configs import gpu8


def get_config() -> ConfigDict:
    """configs/gpu8.py with one example and more per chip."""
    config = gpu8.get_config()
    config.train.batch_size = 512
    config.optimizer.learning_rate = 8e-3
    config.optimizer.warmup_fraction = 0.1
    return config
