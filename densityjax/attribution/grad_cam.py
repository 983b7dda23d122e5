"""Grad-CAM of the last scale, carried back to the cell."""

import numpy as np

from densityjax.attribution.question import Question
from densityjax.attribution.result import Attribution


def grad_cam(question: Question) -> Attribution:
    """Where the channels of the last scale are that raise (or, negative, lower) the prediction.

    See `network.class_activation`. It has the resolution of the last scale, no reference, and adds
    up to nothing: the largest absolute value is 1.
    """
    density = question.density
    described = question.descriptors([density])
    found, prediction = np.zeros(density.shape[:3]), 0.0
    for part, own in zip(question.parts, described, strict=True):
        activation, weight = question.class_activation(part, own[0])
        seen = weight > 1e-3 * weight.max()  # voxels that no view has are 0
        found += part.share * np.where(seen, activation / np.where(seen, weight, 1.0), 0.0)
        values = question.network_values(part, density[None], own)
        prediction += part.share * float(values.mean())
    found /= max(float(np.abs(found).max()), 1e-30)
    return Attribution(
        "grad_cam", found, np.zeros((0, *found.shape)), prediction, None
    )
