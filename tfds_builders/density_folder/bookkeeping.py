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
    "theoretical", "functional", "code", "sha256", "md5", "name", "names", "compound",
    "compound_name", "material_name", "common_name", "path", "filename", "file_name", "filepath",
    "folder", "directory", "dir", "user", "owner", "email", "version", "vasp_version", "run_id",
    "run", "job", "job_id", "calc_id", "calculation_id", "entry_id", "task_ids", "serial",
    "serial_no", "serial_number", "s_no", "sl_no", "sno", "row_id", "rowid", "row_number",
    "row_no", "record", "number", "seed", "random_seed", "kpoints", "encut", "potcar",
    "pseudopotential", "remark", "remarks", "description", "tags", "keywords", "warnings",
    "database_ids", "composition_reduced", "symmetry_symprec", "symmetry_version", "modified",
    "last_modified", "time", "datetime", "point_group", "symmetry_point_group", "prototype",
    "num_electrons", "nelect", "n_electrons",
))
_UNNAMED = re.compile(r"unnamed_*\d*")
_NUMBERED = re.compile(r"level_\d+|target_\d*")


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
    if _UNNAMED.fullmatch(name.lower()):
        return f"a column without a name: {remedy}"
    if _NUMBERED.fullmatch(name.lower()) and all(text.isdecimal() for text in present):
        return f"numbers of rows: {remedy}"
    if present and 2 * sum(map(looks_like_date, present)) > len(present):
        return f"dates: {remedy}"
    return ""
