"""Files of this person: in JSON, read by nobody else, written whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dwcloud.errors import ConfigurationError
from dwcloud.net.private_files import make_private_directory, replace_file

__all__ = ["FileLock", "data_directory", "read_json", "write_json"]

_LOCK_RETRY = 0.05
"""Seconds until a lock that another process holds is tried again."""


def data_directory() -> Path:
    """Where the programs keep what belongs to this person.

    :raises ConfigurationError: if this person has no home.
    """
    try:
        data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    except RuntimeError:
        raise ConfigurationError(
            "there is no home directory to keep files in; set XDG_DATA_HOME"
        ) from None
    return Path(data) / "dwcloud"


def write_json(path: Path, value: object) -> None:
    """Replace a file by a value in JSON.

    :raises ConfigurationError: if it cannot be written; what was there stays.
    """
    data = json.dumps(value, indent=1).encode("ascii") + b"\n"
    try:
        make_private_directory(path.parent)
    except OSError as e:
        raise ConfigurationError(f"cannot write {path}: {e.strerror}") from e
    replace_file(path, data)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read an object in JSON, None if there is no such file.

    :raises ConfigurationError: if it cannot be read or is something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as e:
        raise ConfigurationError(f"cannot read {path}: {e.strerror}") from e
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ConfigurationError(
            f"{path} is damaged: it does not hold one object in JSON; remove it, what "
            "it held is asked for anew"
        )
    return value


class FileLock:
    """Lets one process at a time change a file.

    :param path: of the file; the lock is on another one beside it, as that file itself
        is replaced at each change.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f".{path.name}.lock")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock, after waiting for it.

        For what takes no time only: the process stands still meanwhile.
        """
        handle = self._open()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    async def acquire(self, reactor: IReactorTime, limit: float) -> LockHandle:
        """Get the lock without standing still.

        :param limit: seconds to wait.
        :raises ConfigurationError: if another process keeps it.
        """
        handle = self._open()
        tries = max(1, round(limit / _LOCK_RETRY))
        try:
            for _ in range(tries):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return LockHandle(handle)
                except BlockingIOError:
                    waiting: Deferred[None] = deferLater(reactor, _LOCK_RETRY)
                    await waiting
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        raise ConfigurationError(
            f"another process has been using {self._path} for {limit:g} s; end it, or "
            "try again"
        )

    def _open(self) -> int:
        try:
            make_private_directory(self._path.parent)
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise ConfigurationError(f"cannot write {self._path}: {e.strerror}") from e


class LockHandle:
    """A lock that is held."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def release(self) -> None:
        """Let others have it."""
        os.close(self._handle)
