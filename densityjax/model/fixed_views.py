"""Origins and rotations of the evaluation views, computed without a compiler.

They are the same in every program, and XLA's CPU compiler takes a second over the random numbers of
a single view: a third of what a program that predicts takes to compile.

The generator is JAX's: Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror and Shaw, Parallel random
numbers: as easy as 1, 2, 3, SC 2011), a counter per number ('partitionable', JAX's default).
"""

import functools

import numpy as np
from scipy.special import erfinv

MAX_VIEWS = 1024  # that there are draws for, see `config.MAX_VIEWS`
VIEW_SEED = 13207
_TURNS = ((13, 15, 26, 6), (17, 29, 16, 24))  # bits that a round rotates by, of odd and even groups
_PARITY = np.uint32(0x1BD11BDA)


def seed_key(seed: int) -> np.ndarray:
    """uint32 [2], `jax.random.key_data(jax.random.key(seed))` of a seed below 2^32."""
    return np.array([0, seed], np.uint32)


def split(keys: np.ndarray) -> np.ndarray:
    """uint32 [2, ..., 2]: `jax.random.split` of keys [..., 2], the halves first."""
    return np.stack([np.stack(_hashed(keys, number), axis=-1) for number in range(2)])


def fold_in(key: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """uint32 [n, 2]: `jax.random.fold_in` of a key [2] with each of [n] numbers."""
    return np.stack(_hashed(key, numbers), axis=-1)


def uniform(keys: np.ndarray, count: int) -> np.ndarray:
    """float32 [..., count] in [0, 1): `jax.random.uniform` of keys [..., 2]."""
    high, low = _hashed(keys[..., None, :], np.arange(count))
    mantissa = (high ^ low) >> np.uint32(9) | np.uint32(0x3F800000)  # of a float32 in [1, 2)
    return mantissa.view(np.float32) - np.float32(1)


def normal(keys: np.ndarray, count: int) -> np.ndarray:
    """float32 [..., count], `jax.random.normal` of keys [..., 2] but for rounding."""
    lowest = np.nextafter(np.float32(-1), np.float32(0))
    drawn = uniform(keys, count) * (np.float32(1) - lowest) + lowest  # above -1
    return (np.sqrt(2) * erfinv(np.maximum(drawn, lowest).astype(np.float64))).astype(np.float32)


def _hashed(keys: np.ndarray, counter: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Threefry-2x32 of the counters (0, counter) with keys [..., 2], two uint32 [...]."""
    first, second = (keys[..., half].astype(np.uint32) for half in range(2))
    schedule = (first, second, first ^ second ^ _PARITY)
    a = np.broadcast_to(schedule[0], np.broadcast_shapes(first.shape, np.shape(counter)))
    b = np.asarray(counter).astype(np.uint32) + schedule[1]
    for group in range(5):
        for turn in _TURNS[group % 2]:
            a = a + b
            b = (b << np.uint32(turn) | b >> np.uint32(32 - turn)) ^ a
        a = a + schedule[(group + 1) % 3]
        b = b + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return a, b


def rotations_of(gaussian: np.ndarray) -> np.ndarray:
    """[n, 3, 3] orthogonal of Gaussian [n, 3, 3], see `views.random_rotation`."""
    a, b, c = gaussian.astype(np.float64).swapaxes(0, 1)
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    b = b - a * (a * b).sum(axis=1, keepdims=True)
    b = b / np.linalg.norm(b, axis=1, keepdims=True)
    last = np.cross(a, b)
    last = last * np.sign((last * c).sum(axis=1, keepdims=True))
    return np.stack([a, b, last], axis=1).astype(np.float32)


@functools.cache
def fixed_views() -> tuple[np.ndarray, np.ndarray]:
    """Of the views 0 to MAX_VIEWS - 1: origins float32 [V, 3], fractional; rotations [V, 3, 3]."""
    origin_keys, turn_keys = split(fold_in(seed_key(VIEW_SEED), np.arange(MAX_VIEWS)))
    origins = uniform(origin_keys, 3)  # [V, 3]
    rotations = rotations_of(normal(turn_keys, 9).reshape(-1, 3, 3))  # [V, 3, 3]
    return origins, rotations
