"""A run directory belongs to one process at a time."""

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from densityjax.runtime.errors import UserError

log = logging.getLogger("densityjax")

_LOCK = ".lock"


@contextmanager
def claimed(folder: str | Path) -> Iterator[None]:
    """Holds `folder` (made if it is missing) for the block; the system lets go if we are killed.

    A folder that this makes and an error leaves empty is removed.

    Raises:
        UserError: another process holds it; names that process.
    """
    folder = Path(folder)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(folder):
            yield
    except BaseException:
        if made and [path.name for path in folder.iterdir()] == [_LOCK]:
            (folder / _LOCK).unlink()
            folder.rmdir()
        raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # Opened for appending: what the holder wrote stays readable until the lock is ours.
    with (folder / _LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(
                f"{folder} is in use by {holder}: wait until it ends, or name another --workdir"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            log.warning("%s: this file system has no locks; nothing keeps others out", folder)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
