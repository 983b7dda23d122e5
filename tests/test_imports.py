"""The code flows one way: a file imports only from files that come before it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "densityjax"

# From data to command line: a new module gets its place here. A package's `__init__` (`ops`) comes
# after its files; densityjax's own only sets the flags.
ORDER = (
    "xla_flags",
    "__init__",
    "command_line",
    "compile_cache",
    "distributed",
    "density",
    "formats.compression",
    "formats.text",
    "formats.unit",
    "formats.vasp",
    "formats.chgcar_json",
    "formats.cube",
    "formats.xsf",
    "formats.table",
    "formats",
    "density_io",
    "grid",
    "inspect",
    "record",
    "targets",
    "record_index",
    "input_pipeline",
    "views",
    "ops.onednn",
    "ops.conv3d",
    "ops.activation",
    "ops.reduction",
    "ops",
    "models.field",
    "models.lattice_features",
    "models.layers",
    "models.msa3dcnn",
    "models",
    "statistics",
    "losses",
    "metrics",
    "groups",
    "similarity",
    "clustering",
    "comparison",
    "optimizer",
    "train_state",
    "steps",
    "affinity",
    "task",
    "parallel",
    "checkpoint",
    "evaluate",
    "baselines",
    "applicability",
    "run_log",
    "preemption",
    "train",
    "grouped_training",
    "report",
    "comparison_report",
    "predict",
    "model_similarity",
    "grouping_plot",
    "target_grouping",
    "ablation_plan",
    "ablation_run",
    "ablation_table",
    "ablation",
    "main",
)
# Code traced by JAX: no clocks, files, logs or configs.
PURE = ("ops", "models", "losses", "steps", "affinity")
IMPURE_MODULES = {
    "absl", "array_record", "csv", "glob", "grain", "h5py", "io", "logging",
    "ml_collections", "orbax", "os", "pathlib", "pickle", "random", "shutil", "subprocess", "sys",
    "tempfile", "tensorboardX", "tensorflow_datasets", "time", "tqdm",
}  # fmt: skip
IMPURE_CALLS = {"open", "print", "input"}
DEVICE_MAPPING = {"pmap", "shard_map", "xmap", "device_put_replicated", "device_put_sharded"}

# Module name ('density_io', 'ops.conv', 'models' for models/__init__.py) -> file.
MODULES = {
    ".".join(p for p in path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
MODULES = {name.removesuffix(".__init__"): path for name, path in MODULES.items()}


def _tree(name: str) -> ast.Module:
    path = MODULES[name]
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


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


def _violations(name: str, imported: set[str]) -> list[str]:
    """What breaks the direction, in words, in a module that imports these dotted names."""
    if name not in ORDER:
        return [f"{name} has no place in ORDER"]
    found = []
    for dotted in sorted(n.removeprefix("densityjax.") for n in imported if "densityjax." in n):
        # The name is a module, or something (a function, a class) inside one.
        other = dotted if dotted in ORDER or dotted in MODULES else dotted.rpartition(".")[0]
        if other not in ORDER:
            found.append(f"{name} imports {dotted}, which has no place in ORDER")
        elif ORDER.index(other) >= ORDER.index(name):
            found.append(f"{name} imports {other}, which comes later")
    return found


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_backwards(name):
    assert _violations(name, _imports(_tree(name))) == []


@pytest.mark.parametrize(
    ("name", "code", "found"),
    [
        ("grid", "from densityjax import train", ["grid imports train, which comes later"]),
        ("grid", "def f():\n  import densityjax.grid", ["grid imports grid, which comes later"]),
        ("grid", "from densityjax.losses import mse", ["grid imports losses, which comes later"]),
        ("helpers", "", ["helpers has no place in ORDER"]),
        ("grid", "from densityjax.io import f", ["grid imports io.f, which has no place in ORDER"]),
        ("losses", "import jax\nfrom densityjax.targets import TargetSpec", []),
        ("train", "from densityjax import grid, models", []),
    ],
)
def test_the_check_finds_what_it_should(name, code, found):
    assert _violations(name, _imports(ast.parse(code))) == found


@pytest.mark.parametrize("name", MODULES)
def test_only_parallel_maps_over_devices(name):
    if name == "parallel":
        return
    tree = _tree(name)
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {part for imported in _imports(tree) for part in imported.split(".")}
    assert not used & DEVICE_MAPPING, "only parallel.py maps over devices"


@pytest.mark.parametrize("name", [m for m in MODULES if m.split(".")[0] in PURE])
def test_traced_code_does_no_input_or_output(name):
    tree = _tree(name)
    roots = {imported.split(".")[0] for imported in _imports(tree)}
    assert not roots & IMPURE_MODULES
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & IMPURE_CALLS
