"""Files that are written whole or not at all, and keys that nobody else may read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from dwcloud.errors import ConfigurationError

__all__ = ["make_private_directory", "replace_file", "write_new_file"]


def make_private_directory(directory: Path) -> None:
    """Make a directory for this user alone, unless it is there."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_new_file(path: Path, data: bytes, mode: int) -> None:
    """Write a file that is not there yet; what a crash left in its place goes.

    :raises OSError: if it cannot be written.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file, or put other content in the place of an old one's.

    :param mode: who may read and write it.
    :raises ConfigurationError: if it cannot be written; what was there stays.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        write_new_file(new, data, mode)
        new.replace(path)
    except OSError as e:
        with suppress(OSError):
            new.unlink()
        raise ConfigurationError(f"cannot write {path}: {e.strerror}") from e
