"""Columns that tables carry along and nobody wants to predict: numbers of rows, names, dates."""

import re
from collections.abc import Sequence

from tfds_builders.density_folder.cells import is_missing, looks_like_date

# In lower case, with '_' for what is no letter or digit.
_NAMES = frozenset((
    "index", "idx", "row", "no", "nr", "id", "uid", "uuid", "mpid", "mp_id", "task_id", "icsd",
    "icsd_id", "cod_id", "oqmd_id", "jid", "split", "set", "subset", "partition", "date", "year",
    "created", "created_at", "updated_at", "last_updated", "timestamp", "formula_pretty",
    "pretty_formula", "full_formula", "reduced_formula", "formula_reduced", "formula_anonymous",
    "anonymous_formula", "composition", "elements", "chemsys", "nsites", "num_sites", "n_sites",
    "natoms", "num_atoms", "n_atoms", "nelements", "num_elements", "n_elements", "spacegroup",
    "space_group", "spacegroup_number", "space_group_number", "spg_number", "spg", "sg",
    "sg_number", "spacegroup_symbol", "space_group_symbol", "symmetry_number", "symmetry_symbol",
    "symmetry_space_group", "title", "source", "reference", "references", "ref", "doi", "url",
    "author", "comment", "comments", "note", "notes", "cif", "structure", "poscar", "deprecated",
    "theoretical", "functional", "code", "sha256", "md5",
))
_UNNAMED = re.compile(r"(unnamed_*\d*|level_\d+|target_\d*)")


def why_bookkeeping(name: str, texts: Sequence[str]) -> str:
    """Why a column is taken to be no target, '' if it may be one.

    Args:
        name: of the target, see `labels.split_header`.
        texts: [n] cells.
    """
    remedy = f"to train on it all the same, describe it under [{name}] in targets.toml"
    if name.lower() in _NAMES:
        return f"bookkeeping by its name: {remedy}"
    present = [text for text in texts if not is_missing(text)]
    if _UNNAMED.fullmatch(name.lower()) and all(text.isdecimal() for text in present):
        return f"numbers of rows, without a name: {remedy}"
    if present and 2 * sum(map(looks_like_date, present)) > len(present):
        return f"dates: {remedy}"
    return ""
