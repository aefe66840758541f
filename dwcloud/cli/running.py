"""Running a command in the reactor: exit codes, signals, and the log."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
)
from twisted.python.failure import Failure

from dwcloud.cli.console import Console
from dwcloud.cli.failures import is_expected, one_line
from dwcloud.net.log_lines import log_observer

__all__ = ["Command", "Run", "begin_logging", "run", "until_interrupted"]

Command = Callable[[Any], Coroutine[Deferred[Any], Any, int]]
"""Gets the reactor, returns the exit code; is cancelled by signals."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def begin_logging(verbose: bool, log_format: str = "text") -> None:
    """Send the log to standard error; of a quiet command only what is a bug.

    :param log_format: ``"text"`` or ``"json"``.
    """
    level = LogLevel.info if verbose else LogLevel.critical
    observer = FilteringLogObserver(
        log_observer(sys.stderr, log_format), [LogLevelFilterPredicate(level)]
    )
    globalLogBeginner.beginLoggingTo(
        [observer], discardBuffer=not verbose, redirectStandardIO=False
    )


async def until_interrupted() -> int:
    """Wait for the signal that ends a command which has no end of its own.

    :return: 0, since this is how it is meant to end.
    """
    try:
        await Deferred()
    except CancelledError:
        return 0
    raise AssertionError("nothing fires this")


class Run:
    """One command from the start of the reactor to its stop.

    The first signal cancels the command, which cleans up and ends; a second one ends
    the process at once. A command whose results cannot be written is cancelled, too.

    :param name: begins each line of error.
    :ivar code: the exit code, when the command has ended.
    """

    def __init__(self, reactor: Any, name: str, command: Command, console: Console):
        self._reactor = reactor
        self._name = name
        self._command = command
        self._console = console
        self._running: Deferred[int] | None = None
        self._signal: int | None = None
        self.code = 1

    def start(self) -> None:
        """Start the command; the reactor stops when it has ended."""
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._signal_received)
        # The command may be in the middle of something when it prints.
        self._console.on_lost = lambda: self._reactor.callLater(0, self._cancel)
        self._running = Deferred.fromCoroutine(self._command(self._reactor))
        self._running.addCallbacks(self._ended, self._failed)
        self._running.addBoth(lambda _: self._reactor.stop())

    def _signal_received(self, number: int, frame: object) -> None:
        for each in _SIGNALS:
            if signal.getsignal(each) is not signal.SIG_IGN:
                signal.signal(each, signal.SIG_DFL)
        self._signal = number
        self._reactor.callFromThread(self._cancel)

    def _cancel(self) -> None:
        if self._running is not None and not self._running.called:
            self._running.cancel()

    def _ended(self, code: int) -> None:
        self.code = code

    def _failed(self, reason: Failure) -> None:
        if self._signal is not None and (
            reason.check(CancelledError) or is_expected(reason)
        ):
            # A terminal interrupts our children, too: that they are gone is no news.
            self.code = 128 + self._signal
        elif self._console.lost is not None and reason.check(CancelledError):
            self.code = 1
        elif is_expected(reason):
            self._console.message(f"{self._name}: {one_line(reason)}")
        else:
            self._console.message(reason.getTraceback().rstrip())


def run(name: str, command: Command, console: Console) -> int:
    """Run ``command`` in the reactor and return the exit code of the process.

    :param name: begins each line of error.
    """
    from twisted.internet import reactor

    this_run = Run(reactor, name, command, console)
    reactor.callWhenRunning(this_run.start)
    reactor.run()
    return this_run.code
