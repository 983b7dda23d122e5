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


@contextmanager
def claimed(folder: str | Path) -> Iterator[None]:
    """Holds `folder` (made if it is missing) for the block; the system lets go if we are killed.

    Raises:
        UserError: another process holds it; names that process.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Opened for appending: what the holder wrote stays readable until the lock is ours.
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
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
