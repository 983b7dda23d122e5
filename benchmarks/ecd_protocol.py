"""Protocols of benchmarks/ecd.py: who is trained on, who judges; and the leaks, each a switch."""

import dataclasses

import numpy as np

from benchmarks.ecd_data import EVERY_ROW, FOLDS, Materials

_SEED = 7227  # of the random split


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Five parts judge in turn. Without a leak they are the folds, which share no chemical system.

    Attributes:
        leaky_random_split: parts are drawn at random, so that most test rows have their chemical
          system in training.
        leaky_trim_targets: outliers of each target are left out before the split, of test rows too.
        leaky_fit_on_all_rows: scalers and principal components are fitted on test rows, too.
        leaky_autoencoder_all_rows: the autoencoder has seen the test rows.
    """

    leaky_random_split: bool = False
    leaky_trim_targets: bool = False
    leaky_fit_on_all_rows: bool = False
    leaky_autoencoder_all_rows: bool = False

    @property
    def name(self) -> str:
        """'ours', 'theirs' with all leaks, else the leaks."""
        on = [f.name for f in dataclasses.fields(self) if getattr(self, f.name)]
        if len(on) == len(dataclasses.fields(self)):
            return "theirs"
        return " + ".join(on) or "ours"

    def part(self, materials: Materials) -> np.ndarray:
        """[n] number of the part that each material is judged in."""
        if not self.leaky_random_split:
            return materials.fold
        return np.random.default_rng(_SEED).permutation(np.arange(len(materials.fold)) % len(FOLDS))

    def encoders(self, materials: Materials) -> np.ndarray:
        """[n] the autoencoder whose latents a material is judged by: one that has not seen it."""
        if self.leaky_autoencoder_all_rows:
            return np.full(len(materials.fold), EVERY_ROW)
        return materials.fold.astype(str)

    def labels(self, materials: Materials) -> dict[str, np.ndarray]:
        """{target: [n]} in the target's unit, NaN = missing or left out.

        Outliers are beyond 1.5 interquartile ranges from the quartiles (Tukey); the paper does not
        give its rule.
        """
        found = {}
        for spec in materials.specs:
            values = np.array(materials.records.labels[spec.name], np.float64)
            if self.leaky_trim_targets:
                low, high = np.nanquantile(values, [0.25, 0.75])
                margin = 1.5 * (high - low)
                values[(values < low - margin) | (values > high + margin)] = np.nan
            found[spec.name] = values
        return found


LEAKS = tuple(field.name for field in dataclasses.fields(Protocol))
OURS, THEIRS = Protocol(), Protocol(*(True for _ in LEAKS))
EACH = (OURS, *(Protocol(**{leak: True}) for leak in LEAKS), THEIRS)
