"""Periodic grids: resampling, and what it leaves behind."""

import functools

import numpy as np
import scipy.fft


def resample(values: np.ndarray, shape: int | tuple[int, int, int]) -> np.ndarray:
    """Resamples a periodic field to another grid of the same cell by Fourier interpolation.

    The trigonometric interpolant of `values` is truncated to the frequencies that the new grid can
    carry and evaluated at its points, so a band-limited field is exact and the mean, hence the
    electron count, is conserved to rounding. At the Nyquist frequency of an even axis the cosine is
    kept (halved onto +k and -k going up, folded back going down), so the result is real and
    up followed by down is the identity.

    Interpolation along an axis is linear, so to a small grid it is one product with a real matrix,
    which costs less than transforms that compute frequencies to be thrown away (128^3 to 32^3: a
    quarter of the time). To larger grids real transforms are faster.

    Cutting off frequencies rings (Gibbs): beside steep cores a coarse density oscillates and may
    dip below zero; `negative_fraction` measures it.

    Args:
        values: [X, Y, Z] real, any unit.
        shape: the new grid, one number meaning a cube.

    Returns:
        float64 [X', Y', Z'], in the unit of `values`.

    Raises:
        ValueError: `values` is not three-dimensional or `shape` is not one or three positive
            integers.
    """
    sizes = (shape,) * 3 if np.ndim(shape) == 0 else tuple(shape)
    if len(sizes) != 3 or not all(size == int(size) >= 1 for size in sizes):
        raise ValueError(f"grid must be one or three positive integers, got {shape}")
    values = np.asarray(values, np.float64)  # [X, Y, Z]
    if values.ndim != 3 or not values.size:
        raise ValueError(f"a field must have shape [X, Y, Z], got {list(values.shape)}")
    transposed = values.flags.f_contiguous  # as files have it, x fastest; copying would cost more
    if transposed:
        values, sizes = values.T, sizes[::-1]
    values = np.ascontiguousarray(values)
    # The axes are independent; the one that shrinks most goes first, to leave the others less work.
    for axis in sorted(range(3), key=lambda a: sizes[a] / values.shape[a]):
        old, new = values.shape[axis], int(sizes[axis])
        if new == old:
            continue
        if new <= _MATRIX_UP_TO and old <= _MATRIX_FROM_UP_TO:
            values = _apply_matrix(_matrix(old, new), values, axis)
        else:
            values = _fourier(values, new, axis)
    return values.T if transposed else values


# Above, the product costs more than the transforms (measured for 24 to 300 points).
_MATRIX_UP_TO = 128
# Above, making the matrix, of 8 old^2 bytes on the way, would take the memory that a thin grid's
# few numbers do not. Files of crystals have at most some hundred points along an axis.
_MATRIX_FROM_UP_TO = 1024


@functools.lru_cache(maxsize=32)
def _matrix(old: int, new: int) -> np.ndarray:
    """[old, new]: values on `old` points times this are the interpolant at `new` points."""
    matrix = _fourier(np.eye(old), new, axis=1)
    matrix.flags.writeable = False
    return matrix


def _apply_matrix(matrix: np.ndarray, values: np.ndarray, axis: int) -> np.ndarray:
    """Contracts one axis of [X, Y, Z], contiguous, without moving the others."""
    x, y, z = values.shape
    new = matrix.shape[1]
    if axis == 2:
        return (values.reshape(x * y, z) @ matrix).reshape(x, y, new)
    if axis == 1:
        return np.matmul(matrix.T, values)  # [X, new, Z]
    return (matrix.T @ values.reshape(x, y * z)).reshape(new, y, z)


def _fourier(values: np.ndarray, size: int, axis: int) -> np.ndarray:
    old = values.shape[axis]
    spectrum = scipy.fft.rfft(values, axis=axis, norm="forward")  # frequencies 0 .. old // 2
    smaller = min(old, size)
    if smaller % 2 == 0:
        nyquist = [slice(None)] * values.ndim
        nyquist[axis] = slice(smaller // 2, smaller // 2 + 1)
        spectrum[tuple(nyquist)] *= 0.5 if size > old else 2.0
    return scipy.fft.irfft(spectrum, size, axis=axis, norm="forward")  # cuts or pads with zeros


def negative_fraction(values: np.ndarray) -> float:
    """Fraction of the voxels below zero: ringing, or cores of a pseudo density."""
    return float(np.mean(values < 0))
