"""Programs that a command starts, watches and ends."""

from __future__ import annotations

import re
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from dwcloud.cli.failures import CommandFailed

__all__ = ["ChildProcess"]

_LINES_KEPT = 200
_LINES_SHOWN = 8


class ChildProcess(ProcessProtocol):
    """One program, its output line by line, and its end.

    :param name: what people call it.
    :param termination_timeout: seconds that it has to end by itself before it is
        killed.
    :ivar ended: fires when the program is gone, for whatever reason.
    :ivar exit_code: then, unless a signal ended it.
    """

    def __init__(
        self, reactor: Any, name: str, *, termination_timeout: float = 5.0
    ) -> None:
        self.name = name
        self._termination_timeout = termination_timeout
        self.ended: Deferred[None] = Deferred()
        self.exit_code: int | None = None
        self._reactor = reactor
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)
        # The beginning of a line on standard output and on standard error.
        self._begun = {1: b"", 2: b""}
        self._waiting: list[tuple[re.Pattern[str], Deferred[re.Match[str]]]] = []
        self._running = False
        self._reason = ""
        self._stopping = False
        self._process: IProcessTransport | None = None

    def start(
        self, command: Sequence[str], directory: Path, environment: Mapping[str, str]
    ) -> None:
        """Start the program in ``directory``."""
        self._running = True
        self._process = self._reactor.spawnProcess(
            self,
            command[0],
            list(command),
            env=dict(environment),
            path=str(directory),
        )

    @property
    def last_lines(self) -> list[str]:
        """The end of the program's output."""
        return list(self._lines)[-_LINES_SHOWN:]

    def wait_for(
        self, pattern: str, timeout: float, *, future: bool = False
    ) -> Deferred[re.Match[str]]:
        """Wait for a line of output.

        :param pattern: a regular expression to be found in the line.
        :param timeout: seconds.
        :param future: do not look at what was printed already.
        :return: fires with the match; fails with :class:`CommandFailed` if the
            program ends before, or prints no such line in time.
        """
        compiled = re.compile(pattern)
        found: Deferred[re.Match[str]] = Deferred()
        for line in () if future else self._lines:
            if match := compiled.search(line):
                found.callback(match)
                return found
        if not self._running:
            found.errback(Failure(self._early_end()))
            return found
        self._waiting.append((compiled, found))
        return found.addTimeout(
            timeout, self._reactor, onTimeoutCancel=self._silent(timeout)
        )

    def _silent(self, timeout: float) -> Any:
        def fail(result: object, _: float) -> None:
            raise CommandFailed(
                f"{self.name} was not ready within {timeout:g} s; {self._output()}"
            )

        return fail

    def _early_end(self) -> CommandFailed:
        return CommandFailed(
            f"{self.name} ended early ({self._reason}); {self._output()}"
        )

    def _output(self) -> str:
        lines = " | ".join(line.strip() for line in self.last_lines if line.strip())
        return f"its last output: {lines}" if lines else "it printed nothing"

    def _line_received(self, line: str) -> None:
        self._lines.append(line)
        waiting, self._waiting = self._waiting, []
        for pattern, found in waiting:
            if found.called:
                continue
            if match := pattern.search(line):
                found.callback(match)
            else:
                self._waiting.append((pattern, found))

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Take lines apart."""
        *lines, self._begun[childFD] = (self._begun[childFD] + data).split(b"\n")
        for line in lines:
            self._line_received(line.decode("utf-8", "replace").rstrip("\r"))

    def processEnded(self, reason: Failure) -> None:
        """The program is gone."""
        self._running = False
        value = reason.value
        number = getattr(value, "signal", None)
        self.exit_code = getattr(value, "exitCode", None)
        self._reason = (
            f"signal {signal.Signals(number).name}"
            if number
            else f"exit code {self.exit_code}"
        )
        waiting, self._waiting = self._waiting, []
        for _, found in waiting:
            if not found.called:
                found.errback(Failure(self._early_end()))
        self.ended.callback(None)

    def check(self) -> None:
        """Make sure that the program still runs.

        :raises CommandFailed: if it ended.
        """
        if not self._running:
            raise self._early_end()

    def stop(self) -> Deferred[None]:
        """End the program: politely, then by force; fires when it is gone."""
        gone: Deferred[None] = Deferred()
        if not self._running:
            gone.callback(None)
            return gone
        assert self._process is not None
        killing = self._reactor.callLater(
            self._termination_timeout, self._signal, "KILL"
        )

        def ended(_: None) -> None:
            if killing.active():
                killing.cancel()
            gone.callback(None)

        self.ended.addCallback(ended)
        self._signal("TERM")
        return gone

    def _signal(self, name: str) -> None:
        if self._running and self._process is not None:
            self._process.signalProcess(name)
