"""Which fold a material belongs to."""

import hashlib

NUM_FOLDS = 5


def fold_of(chemical_system: str) -> int:
    """Fold of a chemical system, 0 to 4: a hash, so it is the same in every dataset and version.

    All polymorphs and compositions of a system share a fold.
    """
    return hash_of(chemical_system) % NUM_FOLDS


def hash_of(text: str) -> int:
    """A number that is the same in every process and version, unlike `hash`."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
