"""Everything fitted before training, from training rows alone."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from densityjax.data.dataset import DatasetError
from densityjax.data.records import Records, field_rows
from densityjax.model.field import FieldTransform, transform_field
from densityjax.model.lattice_features import LatticeFeatures, lattice_features
from densityjax.runtime.files import replace_text
from densityjax.targets import TargetSpec, to_intensive

# Densities that the field scalers are fitted to: 2,000 materials give a mean to 2 % of the spread
# between materials, and to read all of a large dataset would take minutes at each start.
MAX_FIELDS = 2000


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Scalers and class weights.

    Attributes:
        label_mean, label_std: [T] of intensive, transformed labels; 0 and 1 for classes. Auxiliary
          targets come last.
        field_mean, field_std: [C] of the transformed density over voxels.
        feature_mean, feature_std: [F + D] of the lattice features and the descriptors.
        class_weights: {target: [K]} for class targets.
    """

    label_mean: np.ndarray
    label_std: np.ndarray
    field_mean: np.ndarray
    field_std: np.ndarray
    feature_mean: np.ndarray
    feature_std: np.ndarray
    class_weights: dict[str, np.ndarray]

    def arrays(self, labels: bool = False) -> dict:
        """The part that steps need, float32.

        Args:
            labels: with the scalers of the labels, which only constraints need.
        """
        names = ("field_mean", "field_std", "feature_mean", "feature_std")
        names += ("label_mean", "label_std") if labels else ()
        arrays = {name: getattr(self, name).astype(np.float32) for name in names}
        weights = {k: v.astype(np.float32) for k, v in self.class_weights.items()}
        return arrays | {"class_weights": weights}

    def save(self, path: Path) -> None:
        """Replaces a JSON file in one step; floats round-trip exactly."""
        fields = dataclasses.asdict(self)
        weights = {k: v.tolist() for k, v in fields.pop("class_weights").items()}
        content = {k: v.tolist() for k, v in fields.items()} | {"class_weights": weights}
        replace_text(path, json.dumps(content, indent=1))

    @classmethod
    def load(cls, path: Path) -> "Statistics":
        """Reads what `save` wrote."""
        content = json.loads(path.read_text())
        weights = {k: np.asarray(v) for k, v in content.pop("class_weights").items()}
        arrays = {k: np.asarray(v, np.float64) for k, v in content.items()}
        return cls(**arrays, class_weights=weights)


def fit_statistics(
    records: Records,
    specs: Sequence[TargetSpec],
    *,
    field_transform: FieldTransform,
    log_clamp: float,
    lattice_feature_kind: LatticeFeatures,
    balance_classes: bool,
    max_fields: int = MAX_FIELDS,
) -> Statistics:
    """Fits scalers to the training records.

    Args:
        max_fields: densities that the field scalers are fitted to, see `records.field_rows`.
        balance_classes: weight classes by n / (K n_k) instead of 1.

    Raises:
        DatasetError: a target has fewer than two different labels among the training rows.
    """
    means, stds, class_weights = [], [], {}
    for spec in specs:
        values = records.labels[spec.name]
        if spec.kind == "regression":
            values = to_intensive(spec, values, records.num_electrons, records.volume)
            values = values[np.isfinite(values)]
        else:
            values = values[values >= 0]
        if len(np.unique(values)) < 2:
            raise DatasetError(
                f"target '{spec.name}' has {len(values)} labels and no two different ones in the "
                "training folds: remove it from config.targets"
            )
        if spec.kind == "regression":
            means.append(values.mean())
            stds.append(values.std())
            continue
        means.append(0.0)
        stds.append(1.0)
        counts = np.bincount(values, minlength=spec.num_outputs)
        balanced = len(values) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        class_weights[spec.name] = balanced if balance_classes else np.ones(spec.num_outputs)

    total = squares = 0.0
    rows, volume = field_rows(len(records), max_fields), records.volume
    for row in rows:
        density, cell = records.density(row), float(volume[row])
        field = np.asarray(transform_field(density, field_transform, log_clamp, cell))
        field = field.reshape(-1, field.shape[-1]).astype(np.float64)
        total = total + field.mean(0)
        squares = squares + np.square(field).mean(0)
    field_mean = total / len(rows)  # [C]
    field_std = np.sqrt(np.maximum(squares / len(rows) - field_mean**2, 1e-12))
    if records.channels == 2:
        # The sign of the magnetisation, the last channel, is arbitrary: it is scaled, not shifted.
        field_std[-1] = np.sqrt((squares / len(rows))[-1] + 1e-12)
        field_mean[-1] = 0.0
    features = np.asarray(
        lattice_features(records.lattice, records.num_electrons, lattice_feature_kind), np.float64
    )
    features = np.concatenate([features, records.descriptors], axis=1)  # [n, F + D]
    return Statistics(
        label_mean=np.asarray(means),
        label_std=np.asarray(stds),
        field_mean=field_mean,
        field_std=field_std,
        feature_mean=features.mean(0),
        feature_std=features.std(0) + 1e-6,
        class_weights=class_weights,
    )
