"""Files that hold secrets: modes, atomic writes, locks."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import ConfigurationError
from dwcloud.net.personal_files import (
    FileLock,
    data_directory,
    read_json,
    write_json,
)


class FileTests(SynchronousTestCase):
    """Reading and writing."""

    def setUp(self) -> None:
        """Have a place."""
        self.directory = Path(self.mktemp())
        self.file = self.directory / "deep" / "file.json"

    def test_nobody_else_may_read(self) -> None:
        """File and directory are for their owner alone, whatever the umask."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        write_json(self.file, {"a": 1})
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.file.parent.stat().st_mode), 0o700)

    def test_open_file_is_closed_again(self) -> None:
        """A file that others could read is none any more after it was written."""
        write_json(self.file, {"a": 1})
        self.file.chmod(0o644)
        write_json(self.file, {"a": 2})
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)

    def test_nothing_is_left_over(self) -> None:
        """There is the file and nothing else, also after a failure."""
        write_json(self.file, {"a": 1})
        self.assertRaises(TypeError, write_json, self.file, {"a": object()})
        self.assertEqual(list(self.file.parent.iterdir()), [self.file])
        self.assertEqual(read_json(self.file), {"a": 1})

    def test_missing(self) -> None:
        """No file is no error."""
        self.assertIsNone(read_json(self.file))

    def test_unwritable(self) -> None:
        """The error names the file."""
        self.directory.mkdir()
        (self.directory / "deep").write_text("in the way")
        error = self.assertRaises(ConfigurationError, write_json, self.file, {})
        self.assertIn(str(self.file), str(error))

    def test_damaged(self) -> None:
        """The error names the file, and what to do."""
        self.file.parent.mkdir(parents=True)
        for text in ("", "[]", "{", "[" * 100_000, "\udcff"):
            self.file.write_bytes(text.encode("utf-8", "surrogateescape"))
            error = self.assertRaises(ConfigurationError, read_json, self.file)
            self.assertIn("is damaged", str(error))

    @given(st.binary(max_size=60))
    def test_any_content(self, data: bytes) -> None:
        """Whatever a file holds is read or refused."""
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "file"
            file.write_bytes(data)
            try:
                read_json(file)
            except ConfigurationError as e:
                self.assertIn(str(file), str(e))

    def test_directory(self) -> None:
        """It follows the variable of the XDG base directories."""
        self.patch(os, "environ", {"XDG_DATA_HOME": "/somewhere"})
        self.assertEqual(data_directory(), Path("/somewhere/dwcloud"))


class LockTests(SynchronousTestCase):
    """One process at a time."""

    def setUp(self) -> None:
        """Have a lock."""
        self.clock = Clock()
        self.file = Path(self.mktemp()) / "file"
        self.lock = FileLock(self.file)

    def acquire(self) -> Deferred[object]:
        """Begin to wait for it."""
        return Deferred.fromCoroutine(self.lock.acquire(self.clock, 1.0))

    def test_waits(self) -> None:
        """The second gets it when the first gives it back."""
        first = self.successResultOf(self.acquire())
        second = self.acquire()
        self.assertNoResult(second)
        first.release()  # type: ignore[attr-defined]
        self.clock.advance(0.1)
        self.successResultOf(second).release()  # type: ignore[attr-defined]
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_gives_up(self) -> None:
        """Nobody waits for ever; the error says who is in the way."""
        first = self.successResultOf(self.acquire())
        second = self.acquire()
        self.clock.pump([0.05] * 30)
        error = self.failureResultOf(second, ConfigurationError).value
        self.assertIn("another process", str(error))
        first.release()  # type: ignore[attr-defined]

    def test_cancelled(self) -> None:
        """Who waits no longer does not get it."""
        first = self.successResultOf(self.acquire())
        second = self.acquire()
        second.cancel()
        self.failureResultOf(second)
        first.release()  # type: ignore[attr-defined]
        self.successResultOf(self.acquire()).release()  # type: ignore[attr-defined]

    def test_excludes_other_programs(self) -> None:
        """It is a lock of the operating system."""
        with self.lock.held():
            handle = os.open(self.file.with_name(".file.lock"), os.O_RDWR)
            self.addCleanup(os.close, handle)
            flags = fcntl.LOCK_EX | fcntl.LOCK_NB
            self.assertRaises(BlockingIOError, fcntl.flock, handle, flags)
