"""One process at a time for each identity of this machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from dwcloud.errors import ConfigurationError

__all__ = ["exclusive_identity", "lock_directory"]


def lock_directory(directory: Path, busy: str) -> int:
    """Keep other processes from using a directory until the descriptor is closed.

    The lock is on the directory itself: it leaves no file behind.

    :param busy: what to say if another process uses it; ``{process}`` in it becomes
        that one's number in parentheses, where it can be found out.
    :return: an open descriptor, which holds the lock.
    :raises ConfigurationError: another process uses it.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(handle)
        os.close(handle)
        number = "" if holder is None else f" ({holder})"
        raise ConfigurationError(busy.replace("{process}", number)) from None
    return handle


def _holder(handle: int) -> int | None:
    """Return the process that holds the lock, None where the system does not tell."""
    status = os.fstat(handle)
    device = os.major(status.st_dev), os.minor(status.st_dev)
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        # Such as "1: FLOCK ADVISORY WRITE 4711 fd:01:2883585 0 EOF" (proc(5)); one that
        # waits for another has an arrow in second place.
        words = line.split()
        if len(words) < 6 or words[1] != "FLOCK" or not words[4].isdigit():
            continue
        major, minor, inode = words[5].split(":")
        found = int(major, 16), int(minor, 16), int(inode)
        if found == (*device, status.st_ino) and words[4] != "0":
            return int(words[4])
    return None


@contextlib.contextmanager
def exclusive_identity(directory: Path) -> Iterator[None]:
    """Keep other processes from being the same server meanwhile.

    The mediator would tell clients of the newest alone, so two that publish different
    services would take each other's place in turn.

    :raises ConfigurationError: another process uses the identity.
    """
    handle = lock_directory(
        directory,
        f"another process{{process}} publishes services with the identity in "
        f"{directory}; name all services in one command, or another directory by "
        "--identity",
    )
    try:
        yield
    finally:
        os.close(handle)
