"""Records the commit in what is built; everything else is in pyproject.toml."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

# By its path: importing densityjax needs jaxlib, which a build does not install.
COMMIT = runpy.run_path(str(Path(__file__).parent / "densityjax/runtime/commit.py"))


def record(root: str) -> None:
    """Writes the clone's commit below `root`; in an unpacked sdist the file is there already."""
    if commit := COMMIT["clone_commit"]():
        path = Path(root, "densityjax", COMMIT["BUILT_FROM"])
        path.unlink(missing_ok=True)  # an sdist may link to the tree's own files
        path.write_text(commit + "\n", encoding="utf-8")


class BuildPackage(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable installation asks its clone
            record(self.build_lib)


class SourceDistribution(sdist):
    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        record(base_dir)


setup(cmdclass={"build_py": BuildPackage, "sdist": SourceDistribution})
