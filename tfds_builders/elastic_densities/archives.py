"""The archives that elastic_densities is built from: checked, then read as if they were one."""

import contextlib
import csv
import dataclasses
import hashlib
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tfds_builders.errors import DatasetSourceError


@dataclasses.dataclass(frozen=True)
class Archives:
    """Archives of density files, the oldest first; of a file that several hold the last counts.

    Attributes:
        paths: of the archives.
        checksums: {file name: sha256} that they must have; None leaves them unchecked.
    """

    paths: tuple[Path, ...]
    checksums: Mapping[str, str] | None

    def remedy(self, path: Path) -> str:
        """What a user does about a damaged archive."""
        if self.checksums is None:
            return f"replace {path}"
        return f"restore it with: git checkout -- {path}"

    def digest(self) -> str:
        """The sha256 of the archive, or of the digests of several, one a line.

        Raises:
            DatasetSourceError: an archive is missing, or its sha256 is not the one it must have.
        """
        digests = [self._digest(path) for path in self.paths]
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()

    def _digest(self, path: Path) -> str:
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DatasetSourceError(f"{path}: {error.strerror}; {self.remedy(path)}") from error
        if self.checksums is not None and digest != self.checksums[path.name]:
            raise DatasetSourceError(
                f"{path} is damaged: its sha256 {digest} is not the one in checksums.tsv; "
                f"{self.remedy(path)}"
            )
        return digest

    @contextlib.contextmanager
    def open(self) -> Iterator[Callable[[str], tuple[bytes, Path]]]:
        """Gives a function (name of a file) -> (its content, the archive that holds it).

        Raises:
            DatasetSourceError: an archive is damaged, or none has such a file.
        """
        with contextlib.ExitStack() as stack:
            found: dict[str, tuple[Path, tarfile.TarFile, tarfile.TarInfo]] = {}
            for path in self.paths:
                with self._named(path):
                    archive = stack.enter_context(tarfile.open(path))
                    found |= {m.name: (path, archive, m) for m in archive if m.isfile()}

            def read(name: str) -> tuple[bytes, Path]:
                if name not in found:
                    path = self.paths[-1]
                    raise DatasetSourceError(
                        f"{name} not found in {' or '.join(map(str, self.paths))}; "
                        f"{self.remedy(path)}"
                    )
                path, archive, member = found[name]
                with self._named(path):
                    return archive.extractfile(member).read(), path

            yield read

    @contextlib.contextmanager
    def _named(self, path: Path) -> Iterator[None]:
        """Names the archive that cannot be read."""
        try:
            yield
        except (tarfile.TarError, OSError) as error:
            raise DatasetSourceError(
                f"{path} is damaged or incomplete: {error.args[-1]}; {self.remedy(path)}"
            ) from error

    def labels(self, columns: tuple[str, ...]) -> list[dict[str, str]]:
        """Rows of labels.csv, which has at least these columns.

        Raises:
            DatasetSourceError: an archive is damaged, or labels.csv or a column is not there.
        """
        with self.open() as read:
            data, path = read("labels.csv")
        table = csv.DictReader(data.decode().splitlines())
        if absent := [name for name in columns if name not in (table.fieldnames or ())]:
            raise DatasetSourceError(
                f"labels.csv in {path} lacks the column {absent[0]}; {self.remedy(path)}"
            )
        return list(table)
