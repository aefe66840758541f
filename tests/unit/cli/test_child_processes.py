"""Watching programs, without any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.child_processes import ChildProcess
from dwcloud.cli.failures import CommandFailed


class Process:
    """The handle of a program that only keeps the signals it gets."""

    def __init__(self) -> None:
        self.signals: list[str] = []

    def signalProcess(self, name: str) -> None:
        """Keep."""
        self.signals.append(name)


class ProcessClock(Clock):
    """A simulated clock that can start a program."""

    def __init__(self) -> None:
        super().__init__()
        self.process = Process()
        self.started: list[tuple[Any, ...]] = []

    def spawnProcess(self, *args: Any, **kwargs: Any) -> Process:
        """Keep the arguments."""
        self.started.append((args, kwargs))
        return self.process


class ChildProcessTests(SynchronousTestCase):
    """One program from start to end."""

    def setUp(self) -> None:
        """Start it."""
        self.reactor = ProcessClock()
        self.child = ChildProcess(self.reactor, "the relay")
        self.child.start(["relay", "--here"], Path("/"), {"A": "1"})

    def end(self, code: int = 0) -> None:
        """Let the program end."""
        value = ProcessTerminated(code) if code else ProcessDone(0)
        self.child.processEnded(Failure(value))

    def test_start(self) -> None:
        """It is started as told."""
        ((args, kwargs),) = self.reactor.started
        self.assertEqual(args[1:], ("relay", ["relay", "--here"]))
        self.assertEqual(kwargs, {"env": {"A": "1"}, "path": "/"})

    def test_line_to_come(self) -> None:
        """A line is recognized however it is cut, on either stream."""
        found = self.child.wait_for(r"on (\d+)", 10.0)
        self.child.childDataReceived(2, b"noise\nlistens o")
        self.child.childDataReceived(1, b"other\n")
        self.assertNoResult(found)
        self.child.childDataReceived(2, b"n 4711\r\n")
        self.assertEqual(self.successResultOf(found)[1], "4711")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_line_that_was(self) -> None:
        """A line that came before anybody asked counts."""
        self.child.childDataReceived(1, b"on 4711\n")
        found = self.child.wait_for(r"on (\d+)", 10.0)
        self.assertEqual(self.successResultOf(found)[1], "4711")

    def test_ends_early(self) -> None:
        """A program that ends instead is reported with its last words."""
        found = self.child.wait_for("ready", 10.0)
        self.child.childDataReceived(2, b"cannot bind\n")
        self.end(3)
        reason = self.failureResultOf(found, CommandFailed)
        self.assertEqual(
            reason.getErrorMessage(),
            "the relay ended early (exit code 3); its last output: cannot bind",
        )
        again = self.failureResultOf(self.child.wait_for("ready", 1), CommandFailed)
        self.assertIn("ended early", again.getErrorMessage())

    def test_silent(self) -> None:
        """A program that does not get ready is given up."""
        found = self.child.wait_for("ready", 10.0)
        self.reactor.advance(10.0)
        reason = self.failureResultOf(found, CommandFailed)
        self.assertEqual(
            reason.getErrorMessage(),
            "the relay was not ready within 10 s; it printed nothing",
        )
        self.child.childDataReceived(1, b"ready\n")

    def test_check(self) -> None:
        """Only a program that runs passes the check."""
        self.child.check()
        self.end()
        self.assertRaises(CommandFailed, self.child.check)

    def test_stop(self) -> None:
        """A program that obeys is asked once."""
        gone = self.child.stop()
        self.assertNoResult(gone)
        self.end()
        self.successResultOf(gone)
        self.assertEqual(self.reactor.process.signals, ["TERM"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop_by_force(self) -> None:
        """A program that does not obey is killed."""
        gone = self.child.stop()
        self.reactor.advance(5.0)
        self.assertEqual(self.reactor.process.signals, ["TERM", "KILL"])
        self.child.processEnded(Failure(ProcessTerminated(None, 9)))
        self.successResultOf(gone)
        message = self.assertRaises(CommandFailed, self.child.check)
        self.assertIn("signal SIGKILL", str(message))

    def test_stop_when_gone(self) -> None:
        """There is nothing to do for a program that ended."""
        self.end()
        self.successResultOf(self.child.stop())
        self.assertEqual(self.reactor.process.signals, [])
