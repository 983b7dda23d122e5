"""The code flows one way, from machines to tables: a folder imports only from folders before it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "densityjax"

# The folders and the files on top, in the order of the flow; those of one line do not see each
# other. `tfds_builders` stands beside the package and has its place among them.
ORDER = (
    ("xla_flags", "configs"),
    ("__init__",),
    ("runtime",),
    ("targets",),
    ("constraints", "config_rules"),
    ("config",),
    ("density",),
    ("features",),
    ("inspect", "tfds_builders"),
    ("data", "model"),
    ("step",),
    ("results",),
    ("training",),
    ("prediction", "report"),
    ("attribution",),
    ("predict", "explain", "export", "calibrate", "pretrain", "target_grouping", "ablation",
     "modules"),
    ("main",),
    ("__main__",),
)
PLACE = {name: place for place, names in enumerate(ORDER) for name in names}
# What the builders may know of the package, and the only file of the package that knows them.
SEEN_BY_BUILDERS = {
    "density", "targets", "runtime.files", "runtime.errors", "runtime.csv_cells",
    "runtime.command_line",
}
# What the package imports when it is asked for, from behind it: densityjax.load.
LAZY = {"densityjax/__init__.py": {
    "densityjax.prediction.model.Model", "densityjax.prediction.model.load_model",
}}
KNOWS_BUILDERS = "densityjax/data/dataset.py"
# Code traced by JAX: no clocks, files, logs or configs.
PURE = (
    "densityjax/model/", "densityjax/step/steps.py", "densityjax/step/task.py",
    "densityjax/target_grouping/affinity.py", "densityjax/attribution/network.py",
)
IMPURE_MODULES = {
    "absl", "array_record", "csv", "glob", "grain", "h5py", "io", "logging",
    "ml_collections", "orbax", "os", "pathlib", "pickle", "random", "shutil", "subprocess", "sys",
    "tempfile", "tensorboardX", "tensorflow_datasets", "time", "tqdm",
}
IMPURE_CALLS = {"open", "print", "input"}
DEVICE_MAPPING = {"pmap", "shard_map", "xmap", "device_put_replicated", "device_put_sharded"}
FILES = sorted(
    str(path.relative_to(ROOT))
    for folder in ("densityjax", "tfds_builders")
    for path in (ROOT / folder).rglob("*.py")
    if not path.is_relative_to(PACKAGE / "configs") and "test" not in path.stem
)


def _tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), filename=file)


def _imports(tree: ast.AST) -> set[str]:
    """Dotted names that a tree imports, in functions too; `from a import b` gives 'a.b'."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import, name densityjax instead"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _violations(file: str, imported: set[str]) -> list[str]:
    """What breaks the direction, in words, in a file that imports these dotted names."""
    parts = Path(file).with_suffix("").parts
    here = "tfds_builders" if parts[0] == "tfds_builders" else parts[1]
    if here not in PLACE:
        return [f"{here} has no place in ORDER"]
    found = []
    for dotted in sorted(imported - LAZY.get(file, set())):
        root, _, rest = dotted.partition(".")
        if root == "tfds_builders" and here != "tfds_builders" and file != KNOWS_BUILDERS:
            found.append(f"{file} imports tfds_builders")
        if root != "densityjax":
            continue
        other = rest.split(".")[0]
        if here == "tfds_builders":
            if not any(f"{rest}.".startswith(f"{seen}.") for seen in SEEN_BY_BUILDERS):
                found.append(f"a builder imports {rest}")
        elif other not in PLACE:
            found.append(f"{other} has no place in ORDER")
        elif other != here and PLACE[other] >= PLACE[here]:
            found.append(f"{here} imports {other}, which does not come before it")
    return found


@pytest.mark.parametrize("file", FILES)
def test_imports_point_backwards(file):
    assert _violations(file, _imports(_tree(file))) == []


@pytest.mark.parametrize(
    ("file", "code", "found"),
    [
        ("densityjax/density/grid.py", "from densityjax.training import loop",
         ["density imports training, which does not come before it"]),
        ("densityjax/data/batches.py", "def f():\n  import densityjax.model.views",
         ["data imports model, which does not come before it"]),
        ("densityjax/helpers/x.py", "", ["helpers has no place in ORDER"]),
        ("densityjax/step/task.py", "from densityjax.io import f", ["io has no place in ORDER"]),
        ("densityjax/training/loop.py", "import tfds_builders.folds",
         ["densityjax/training/loop.py imports tfds_builders"]),
        ("tfds_builders/lemat_rho/x.py", "from densityjax.data import records",
         ["a builder imports data.records"]),
        ("densityjax/model/losses.py", "import jax\nfrom densityjax.targets import TargetSpec", []),
        ("densityjax/density/grid.py", "from densityjax.density.density import Density", []),
    ],
)
def test_the_check_finds_what_it_should(file, code, found):
    assert _violations(file, _imports(ast.parse(code))) == found


@pytest.mark.parametrize("file", [f for f in FILES if not f.endswith("step/parallel.py")])
def test_only_parallel_maps_over_devices(file):
    tree = _tree(file)
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {part for imported in _imports(tree) for part in imported.split(".")}
    assert not used & DEVICE_MAPPING, "only step/parallel.py maps over devices"


@pytest.mark.parametrize("file", [f for f in FILES if f.startswith(PURE)])
def test_traced_code_does_no_input_or_output(file):
    tree = _tree(file)
    roots = {imported.split(".")[0] for imported in _imports(tree)}
    assert not roots & IMPURE_MODULES
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & IMPURE_CALLS


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)
)
def test_the_index_of_a_folder_names_its_files(folder):
    if folder.name == "configs":
        return
    index = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    named = re.findall(r"^  (\w+): ", index, re.MULTILINE)
    assert sorted(named) == sorted(p.stem for p in folder.glob("*.py") if p.stem != "__init__")
