"""A cloud on loopback for tests of the command line.

Mediator and relay run in the process of the test, the ``dwcloud`` commands in
processes of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dwcloud.cli.child_processes import ChildProcess
from dwcloud.cli.demo_cloud import LOOPBACK, free_port
from dwcloud.cli.options import MEDIATOR_VARIABLE
from dwcloud.mediator import tap as mediator_tap
from dwcloud.relay import tap as relay_tap
from tests.quiet_reactor import become_quiet

__all__ = ["DWCLOUD", "READY_TIMEOUT", "CloudTestCase", "Echo", "Finished", "Program"]

DWCLOUD = [sys.executable, "-m", "dwcloud.cli.main"]
READY_TIMEOUT = 90.0
"""Seconds for a program to do its first thing, on a machine with much else to do."""


@attrs.frozen
class Finished:
    """How a program ended and what it printed."""

    code: int | None
    out: bytes
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of JSON on standard error."""
        return [json.loads(line) for line in self.err.splitlines() if line[:1] == "{"]


class Program(ProcessProtocol):
    """A program whose input and output a test handles.

    :ivar finished: fires with a :class:`Finished`.
    """

    def __init__(
        self, reactor: Any, data: bytes = b"", keep_open: bool = False
    ) -> None:
        self._reactor = reactor
        self.finished: Deferred[Finished] = Deferred()
        self._data = data
        self._keep_open = keep_open
        self._out = bytearray()
        self._err = bytearray()
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    @property
    def out(self) -> bytes:
        """Standard output so far."""
        return bytes(self._out)

    def connectionMade(self) -> None:
        """Give it its input."""
        assert self.transport is not None
        if self._data:
            # Writing nothing makes Twisted blind for the end of the reader.
            self.transport.write(self._data)
        if not self._keep_open:
            self.transport.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Keep."""
        (self._out if childFD == 1 else self._err).extend(data)
        for condition, waiting in self._waiting:
            if not waiting.called and condition():
                waiting.callback(None)

    def out_has(self, data: bytes) -> Deferred[None]:
        """Fires when standard output contains ``data``."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append((lambda: data in self._out, waiting))
        if data in self._out:
            waiting.callback(None)
        return waiting.addTimeout(READY_TIMEOUT, self._reactor)

    def processEnded(self, reason: Failure) -> None:
        """Tell."""
        value: Any = reason.value
        self.finished.callback(
            Finished(value.exitCode, self.out, self._err.decode("utf-8", "replace"))
        )


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """Sends back what it gets, and the end after it."""

    def connectionMade(self) -> None:
        """Take no more than can be sent back."""
        transport: Any = self.transport
        transport.registerProducer(transport, True)

    def dataReceived(self, data: bytes) -> None:
        """Send it back."""
        assert self.transport is not None
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        """End."""
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Not done here."""


class CloudTestCase(TestCase):
    """Can start everything; all of it ends with the test."""

    timeout = 400

    def setUp(self) -> None:
        """Have the reactor, and a directory for files."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.addCleanup(become_quiet, reactor)
        self.directory = Path(tempfile.mkdtemp(prefix="dwcloud-test-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name != MEDIATOR_VARIABLE
        }
        self.environment["XDG_DATA_HOME"] = str(self.directory / "data")
        self.environment["PYTHONUNBUFFERED"] = "1"

    # The cloud.

    def start_cloud(self, *options: str) -> str:
        """Start relay and mediator; return the mediator's address.

        :param options: further ones of the mediator.
        """
        relay = free_port()
        self.start_service(relay_tap, "--listen", f"tcp:{relay}:interface={LOOPBACK}")
        return self.start_mediator(f"http://{LOOPBACK}:{relay}", *options)

    def start_mediator(self, relay: str = "none", *options: str) -> str:
        """Start a mediator that names ``relay``; return its address."""
        port = free_port()
        self.start_service(
            mediator_tap,
            "--listen",
            f"tcp:{port}:interface={LOOPBACK}",
            "--udp",
            f"{port}:interface={LOOPBACK}",
            "--relay",
            relay,
            *options,
        )
        return f"{LOOPBACK}:{port}"

    def start_service(self, tap: Any, *words: str) -> Any:
        """Start what a tap module makes from a command line."""
        options = tap.Options()
        options.parseOptions(list(words))
        service = tap.makeService(options)
        service.privilegedStartService()
        service.startService()
        self.addCleanup(lambda: maybeDeferred(service.stopService))
        return service

    def listen(self, factory: Factory) -> int:
        """Listen on loopback; return the port."""
        port = self.reactor.listenTCP(0, factory, interface=LOOPBACK)
        self.addCleanup(lambda: maybeDeferred(port.stopListening))
        return int(port.getHost().port)

    def start_echo(self) -> int:
        """Start a service that sends everything back; return its port."""
        factory = Factory.forProtocol(Echo)
        factory.noisy = False
        return self.listen(factory)

    # Commands.

    def start_child(
        self, command: list[str], name: str, directory: Path | None = None
    ) -> ChildProcess:
        """Start a program that runs until the test is over."""
        # Longer than what a command gives its own children, on a busy machine.
        child = ChildProcess(self.reactor, name, termination_timeout=READY_TIMEOUT)
        child.start(command, directory or self.directory, self.environment)
        self.addCleanup(child.stop)
        return child

    def start_dwcloud(self, *words: str) -> ChildProcess:
        """Start a command that runs until the test is over."""
        return self.start_child([*DWCLOUD, *words], f"dwcloud {words[0]}")

    def start_program(
        self, command: list[str], data: bytes = b"", keep_open: bool = False
    ) -> Program:
        """Start a program whose output the test wants."""
        program = Program(self.reactor, data, keep_open)
        self.spawn(program, command)
        return program

    def spawn(
        self, program: Program, command: list[str], *, terminal: bool = False
    ) -> None:
        """Start a program, at a terminal of its own if it is to have one."""
        process = self.reactor.spawnProcess(
            program,
            command[0],
            command,
            env=self.environment,
            path=str(self.directory),
            usePTY=terminal,
        )

        def end() -> Deferred[Finished] | None:
            if program.finished.called:
                return None
            process.signalProcess("KILL")
            return program.finished

        self.addCleanup(end)

    async def run_dwcloud(self, *words: str, data: bytes = b"") -> Finished:
        """Run a command to its end."""
        program = self.start_program([*DWCLOUD, *words], data)
        return await _settled(program.finished)

    async def serve(
        self, mediator: str | None, *services: str, identity: str = "identity"
    ) -> tuple[str, ChildProcess]:
        """Start ``dwcloud serve``; return the peer name when it is online."""
        words = ["--mediator", mediator] if mediator else []
        child = self.start_dwcloud(
            "serve",
            *services,
            *words,
            "--identity",
            str(self.directory / identity),
            "--interface",
            LOOPBACK,
            "--json",
        )
        event = "online" if mediator else "serving"
        line = await child.wait_for(rf'^\{{"event": "{event}".*', READY_TIMEOUT)
        return json.loads(line[0])["peer"], child


def _settled(finished: Deferred[Finished]) -> Deferred[Finished]:
    """The result for one more who waits for it."""
    result: Deferred[Finished] = Deferred()

    def tell(value: Finished) -> Finished:
        result.callback(value)
        return value

    finished.addCallback(tell)
    return result
