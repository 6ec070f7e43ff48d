"""Files that are replaced atomically, folders that are locked, and system errors as one line."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from chainrule.core.errors import MachineError, UserError

try:
    import fcntl
except ImportError:  # Windows: folders are not locked there
    fcntl = None  # type: ignore[assignment]

BINARY = getattr(os, "O_BINARY", 0)
"""Flag of ``os.open`` that Windows needs to leave line ends alone."""
_TEMPORARY = re.compile(r".+\.tmp-\d+")
_CAUSES = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk quota used up",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "read-only file system",
    errno.EIO: "input/output error of the disk",
    errno.ENOENT: "no such folder",
}


@contextmanager
def machine_errors(path: Path, action: str = "write") -> Iterator[None]:
    """Turn an OSError in a ``with`` block into one line that names the path and the cause (exit status 3).

    Args:
        path: the file or folder.
        action: ``read``, ``write`` or ``remove``.

    Raises:
        MachineError: instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        cause = _CAUSES.get(error.errno or 0, os.strerror(error.errno or 0))
        raise MachineError(f"cannot {action} {path}: {cause}; what was saved before is untouched") from error


class FolderLock:
    """A lock on a folder that one process writes to.

    The system holds the lock and gives it up when the process ends, however it ends; no file is left. On platforms
    (Windows) and file systems without such locks nothing is locked.

    Args:
        path: the folder. While it is not there, there is nothing to lock: call `take` again when it was made.
        wait: seconds for which another process may still be ending.

    Raises:
        UserError: another process holds the folder.
    """

    def __init__(self, path: Path, wait: float = 2.0):
        self.path, self.wait = path, wait
        self._descriptor: int | None = None

    def take(self) -> None:
        """Lock the folder, if it is not locked yet."""
        if self._descriptor is not None or fcntl is None or not self.path.is_dir():
            return
        with machine_errors(self.path, "read"):
            descriptor = os.open(self.path, os.O_RDONLY)
        end = time.monotonic() + self.wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    os.close(descriptor)
                    raise UserError(
                        f"{self.path}: another process is working in this folder; wait until it ends, stop it, "
                        "or choose another --out"
                    ) from None
                time.sleep(0.05)
            except OSError:  # a file system without locks
                os.close(descriptor)
                return
            else:
                self._descriptor = descriptor
                return

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def temporary_name(path: Path) -> Path:
    """Return the name under which ``path`` is built before it is renamed: same folder, hence same file system."""
    return path.with_name(f"{path.name}.tmp-{os.getpid()}")


def is_temporary(path: Path) -> bool:
    """Return True for a file or folder that a killed writer left behind."""
    return _TEMPORARY.fullmatch(path.name) is not None


def write_file(path: Path, data: bytes) -> None:
    """Replace the content of a file atomically: whoever reads it finds the old content or the whole new one.

    Args:
        path: the file.
        data: its new content.

    Raises:
        MachineError: the system refuses; the file has its old content or the whole new one.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> write_file(path, b"old")
    >>> write_file(path, b"new")
    >>> path.read_bytes()
    b'new'
    """
    temporary = temporary_name(path)
    with machine_errors(path):
        try:
            write_new(temporary, data)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):  # never made, or a disk that refuses everything: the next start cleans up
                os.unlink(temporary)
            raise
        sync_folder(path.parent)


def write_new(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk.

    Args:
        path: the file.
        data: its content.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | BINARY, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make renames inside a folder survive a power failure; Windows offers no way to do so.

    Args:
        path: the folder.
    """
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems have no fsync of folders
            raise
    finally:
        os.close(descriptor)


def link_folder(link: Path, target: str) -> None:
    """Make a name for a folder, replacing the name's earlier meaning; a copy where the system has no symbolic links.

    Args:
        link: the name.
        target: the folder, relative to the folder of ``link``.
    """
    made = temporary_name(link)
    made.unlink(missing_ok=True)
    try:
        made.symlink_to(target)
    except (OSError, NotImplementedError):  # Windows, unless the user may make links
        shutil.rmtree(link, ignore_errors=True)
        shutil.copytree(link.parent / target, link)
        return
    os.replace(made, link)
