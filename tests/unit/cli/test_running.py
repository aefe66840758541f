"""Exit codes and signals of commands, without sending any."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.failures import CommandFailed
from dwcloud.cli.running import Command, Run, until_interrupted
from tests.unit.cli.consoles import KeepingConsole


class Reactor:
    """Counts how often it is stopped; calls from signal handlers happen at once."""

    def __init__(self) -> None:
        self.stopped = 0

    def stop(self) -> None:
        """Count."""
        self.stopped += 1

    def callLater(
        self, delay: float, call: Callable[..., object], *args: object
    ) -> None:
        """Call."""
        call(*args)

    def callFromThread(self, call: Callable[..., object], *args: object) -> None:
        """Call."""
        call(*args)


class RunTests(SynchronousTestCase):
    """One command."""

    def setUp(self) -> None:
        """Keep the signal handlers of the test's process."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.reactor = Reactor()
        self.console = KeepingConsole()
        self.waiting: Deferred[int] = Deferred()

    def run_command(self, command: Command) -> Run:
        """Start a command."""
        run = Run(self.reactor, "dwcloud x", command, self.console)
        run.start()
        return run

    async def wait(self, reactor: Any) -> int:
        """A command that waits."""
        return await self.waiting

    def interrupt(self, number: int) -> None:
        """What the interpreter does when a signal arrives."""
        handler: Any = signal.getsignal(number)
        handler(number, None)

    def test_exit_code(self) -> None:
        """The command's result is the exit code."""
        run = self.run_command(self.wait)
        self.assertEqual(self.reactor.stopped, 0)
        self.waiting.callback(3)
        self.assertEqual((run.code, self.reactor.stopped), (3, 1))

    def test_expected_failure(self) -> None:
        """A failure of the outside world is one line and exit code 1."""
        run = self.run_command(self.wait)
        self.waiting.errback(CommandFailed("no\nway"))
        self.assertEqual((run.code, self.reactor.stopped), (1, 1))
        self.assertEqual(self.console.messages, ["dwcloud x: no way"])

    def test_bug(self) -> None:
        """A bug is shown with its traceback."""
        run = self.run_command(self.wait)
        self.waiting.errback(KeyError("x"))
        self.assertEqual(run.code, 1)
        self.assertIn("Traceback", self.console.messages[0])

    def test_interrupted(self) -> None:
        """A command that a signal cut short ends with the code of that signal."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.waiting = Deferred()
            run = self.run_command(self.wait)
            self.interrupt(number)
            self.assertEqual(run.code, 128 + number)
        self.assertEqual(self.console.messages, [])

    def test_failed_by_the_interrupt(self) -> None:
        """What fails because of a signal is not told."""

        async def command(reactor: Any) -> int:
            try:
                return await self.waiting
            except CancelledError:
                raise CommandFailed("my child is gone") from None

        run = self.run_command(command)
        self.interrupt(signal.SIGINT)
        self.assertEqual(run.code, 128 + signal.SIGINT)
        self.assertEqual(self.console.messages, [])

    def test_output_lost(self) -> None:
        """A command whose results cannot be written is cancelled, and has failed."""
        run = self.run_command(self.wait)
        self.console.lost = "full"
        assert self.console.on_lost is not None
        self.console.on_lost()
        self.assertEqual((run.code, self.reactor.stopped), (1, 1))
        self.assertEqual(self.console.messages, [])

    def test_clean_up(self) -> None:
        """The reactor runs until an interrupted command has cleaned up."""
        cleaning: Deferred[None] = Deferred()

        async def command(reactor: Any) -> int:
            try:
                return await self.waiting
            finally:
                await cleaning

        run = self.run_command(command)
        self.interrupt(signal.SIGTERM)
        self.assertEqual(self.reactor.stopped, 0)
        cleaning.callback(None)
        self.assertEqual((run.code, self.reactor.stopped), (143, 1))

    def test_second_signal(self) -> None:
        """A second signal ends the process, whatever is still being cleaned up."""
        self.run_command(self.wait)
        self.interrupt(signal.SIGINT)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.assertEqual(signal.getsignal(number), signal.SIG_DFL)

    def test_meant_to_be_interrupted(self) -> None:
        """Where an interrupt is the only end, it is a good one."""

        async def command(reactor: Any) -> int:
            return await until_interrupted()

        run = self.run_command(command)
        self.interrupt(signal.SIGINT)
        self.assertEqual((run.code, self.reactor.stopped), (0, 1))

    def test_ignored_signals_stay_ignored(self) -> None:
        """A command started with nohup survives the end of its terminal."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.run_command(self.wait)
        self.assertEqual(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)
        self.waiting.addErrback(lambda reason: reason.trap(CancelledError))
        self.waiting.cancel()
