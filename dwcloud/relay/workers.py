"""``twistd relay --workers``: the process that started, and the workers it keeps.

This process opens the ports and accepts nothing; the workers inherit them. Each worker
has an inbox, a pair of sockets of which both ends stay open here, so that a worker that
is started again finds what was sent to the one before it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.internet.unix import Port as UNIXPort
from twisted.logger import InvalidLogLevelError, Logger, LogLevel
from twisted.python.failure import Failure

from dwcloud.errors import PortUnavailable
from dwcloud.net.listening import ListeningService
from dwcloud.net.start_failure import stop_twistd

__all__ = [
    "CLOSED",
    "END_DRAIN",
    "FIRST_DESCRIPTOR",
    "READY",
    "STOP",
    "WorkersService",
]

FIRST_DESCRIPTOR = 3
"""A worker's inbox; then come the outboxes of all workers, then the ports."""

READY, CLOSED = b"ready", b"closed"
"""Lines that a worker says: it serves, and it accepts no connection any more."""

STOP, END_DRAIN = b"stop", b"end drain"
"""Lines that it is told."""

_SHORTEST_LIFE = 1.0  # seconds from one start of a worker to its next
_LATEST_END = 10.0  # seconds to end, beside those of the drain


class _SharedPort(ListeningService):
    """A port on which the workers accept.

    A socket with a name in the file system has it until no worker accepts any more.

    :ivar accepted: tells when that is.
    """

    accepted: Callable[[], Deferred[Any]]

    def stopService(self) -> Deferred[None]:
        """Close the socket, now or when the workers have ended with it."""
        port: Any = self.port
        if not isinstance(port, UNIXPort):
            return super().stopService()
        stop = super().stopService
        return cast("Deferred[None]", self.accepted().addCallback(lambda _: stop()))


class WorkersService(MultiService):
    """Listens, and keeps processes that serve.

    :param listen: endpoint strings of the listening sockets.
    :param workers: how many processes.
    :param arguments: the command line of the service, for the workers to read.
    :param drain: seconds for which tunnels may go on when the service is stopped.
    :param onDraining: called when they do; :meth:`end_drain` ends the wait.
    :raises ConfigurationError: if an endpoint string is not one.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        listen: Sequence[str],
        *,
        workers: int,
        arguments: Sequence[str],
        drain: float = 0.0,
        onDraining: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._arguments = list(arguments)
        self._drain = drain
        self._onDraining = onDraining
        self._count = workers
        self._workers: list[_Worker] = []
        self._draining: list[_Worker] = []
        self._listening = [
            _SharedPort(reactor, "relay", description, Factory())
            for description in listen
        ]
        for service in self._listening:
            service.accepted = self._all_closed
            service.setServiceParent(self)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Open the ports.

        :raises PortUnavailable: if one cannot be had, or not shared.
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        for service in self._listening:
            port: Any = service.port
            if not hasattr(port, "stopReading"):
                raise PortUnavailable(
                    f"relay cannot share {service.description} among workers: expected "
                    "tcp:, ssl: or another endpoint that is one listening socket"
                )
            port.stopReading()

    def startService(self) -> None:
        """Start the workers."""
        if any(service.port is None for service in self._listening):
            self.privilegedStartService()
        super().startService()  # type: ignore[no-untyped-call]
        inboxes = [
            socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            for _ in range(self._count)
        ]
        outboxes = [sending.fileno() for _, sending in inboxes]
        ports = [cast(Any, service.port).fileno() for service in self._listening]
        for number, (inbox, outbox) in enumerate(inboxes):
            worker = _Worker(
                self._reactor,
                [f"{number}", f"{self._count}"],
                self._arguments,
                (inbox, outbox),
                [inbox.fileno(), *outboxes, *ports],
                self._failed,
            )
            self._workers.append(worker)
        for worker in self._workers:
            worker.start()

    def _failed(self) -> None:
        if self.running:
            stop_twistd(self._reactor)

    def _all_closed(self) -> Deferred[Any]:
        return DeferredList([worker.closed() for worker in self._draining])

    def stopService(self) -> Deferred[None]:
        """Close the ports, and let the workers end."""
        self._draining, self._workers = self._workers, []
        limit = self._drain + _LATEST_END
        ending = [worker.stop(limit) for worker in self._draining]
        closing: Deferred[Any] = maybeDeferred(super().stopService)
        if self._drain:
            self._onDraining()
        everything = DeferredList([closing, *ending], fireOnOneErrback=True)
        return cast("Deferred[None]", everything.addCallback(lambda _: None))

    def end_drain(self) -> None:
        """Wait for no tunnel any more."""
        for worker in self._draining:
            worker.tell(END_DRAIN)


class _Worker:
    """One worker, whichever process it is at the moment.

    :param position: its number, from 0, and how many workers there are.
    :param arguments: the command line of the service.
    :param inbox: both ends, closed when the worker is stopped.
    :param descriptors: what the processes inherit.
    :param failed: called when the first process ends before it is ready.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        position: Sequence[str],
        arguments: Sequence[str],
        inbox: tuple[socket.socket, socket.socket],
        descriptors: Sequence[int],
        failed: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._position = position
        self._arguments = arguments
        self._inbox = inbox
        self._descriptors = dict(enumerate(descriptors, FIRST_DESCRIPTOR))
        self._failed = failed
        self._process: _Process | None = None
        self._started = 0.0
        self._restarts = 0
        self._was_ready = False
        self._timer: IDelayedCall | None = None
        self._ended: Deferred[None] | None = None
        self._closed: list[Deferred[None]] | None = []

    @property
    def number(self) -> str:
        """Which worker it is."""
        return self._position[0]

    def start(self) -> None:
        """Start a process."""
        self._timer = None
        self._started = self._reactor.seconds()
        self._process = _Process(self)
        self._reactor.spawnProcess(
            self._process,
            sys.executable,
            [
                sys.executable,
                "-m",
                "dwcloud.relay.worker_process",
                *self._position,
                f"{self._restarts}",
                *self._arguments,
            ],
            env=None,
            childFDs={0: "w", 1: "r", 2: "r", **self._descriptors},
        )

    def ready(self, process_id: int) -> None:
        """The process serves."""
        self._was_ready = True
        self.log.info(
            "worker {number} is process {process_id}",
            number=self.number,
            process_id=process_id,
        )

    def closed(self) -> Deferred[None]:
        """Fire when it accepts no connection any more; it was told to stop."""
        if self._closed is None:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._closed.append(waiting)
        return waiting

    def accepts_no_more(self) -> None:
        """The process does not listen any more, or is not there."""
        closed, self._closed = self._closed, None
        for waiting in closed or ():
            waiting.callback(None)

    def process_ended(self, reason: str) -> None:
        """The process is gone: start another one, unless that makes no sense."""
        self._process = None
        if self._ended is not None:
            self._end()
            return
        if not self._was_ready:
            self.log.critical(
                "worker {number} did not start: {reason}",
                number=self.number,
                reason=reason,
            )
            self._failed()
            return
        self.log.error(
            "worker {number} has ended, with all its connections, and is started "
            "again: {reason}",
            number=self.number,
            reason=reason,
        )
        self._restarts += 1
        wait = self._started + _SHORTEST_LIFE - self._reactor.seconds()
        self._timer = self._reactor.callLater(max(0.0, wait), self.start)

    def stop(self, limit: float) -> Deferred[None]:
        """Let the worker end by itself, within ``limit`` seconds; fires when it has."""
        ended = self._ended = Deferred()
        if self._timer is not None:
            self._timer.cancel()
        if self._process is None:
            self._end()
        else:
            self._timer = self._reactor.callLater(limit, self._kill)
            self.tell(STOP)
        return ended

    def tell(self, line: bytes) -> None:
        """Say something to the process, if there is one."""
        if self._process is not None:
            self._process.tell(line)

    def _kill(self) -> None:
        self._timer = None
        if self._process is not None:
            self.log.warn("worker {number} does not end", number=self.number)
            self._process.kill()

    def _end(self) -> None:
        assert self._ended is not None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self.accepts_no_more()
        # This breaks the connections on their way to the worker.
        for end in self._inbox:
            end.close()
        self._ended.callback(None)


class _Process(ProcessProtocol):
    """One process of a worker."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker
        self._said = b""
        self._logged = b""
        self._complaint = ""

    def tell(self, line: bytes) -> None:
        """Say something to the process."""
        cast(Any, self.transport).write(line + b"\r\n")

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(ProcessExitedAlready):
            cast(Any, self.transport).signalProcess("KILL")

    def outReceived(self, data: bytes) -> None:
        """The process tells how it is."""
        *lines, self._said = (self._said + data).split(b"\r\n")
        for line in lines:
            if line == READY:
                self._worker.ready(cast(Any, self.transport).pid)
            elif line == CLOSED:
                self._worker.accepts_no_more()

    def errReceived(self, data: bytes) -> None:
        """The process logs something."""
        *lines, self._logged = (self._logged + data).split(b"\n")
        for line in lines:
            self._log(line)

    def _log(self, line: bytes) -> None:
        session: str | None = None
        try:
            level, text, session = json.loads(line)
            log_level = LogLevel.levelWithName(level)
        except (InvalidLogLevelError, TypeError, ValueError):
            # Not by way of its log: the interpreter's own complaint.
            log_level, text = LogLevel.error, line.decode("utf-8", "replace")
            self._complaint = text.strip() or self._complaint
        self._worker.log.emit(
            log_level,
            "worker {number}: {text}",
            number=self._worker.number,
            text=text,
            **({} if session is None else {"connect_session_id": session}),
        )

    def processEnded(self, reason: Failure) -> None:
        """The process is gone."""
        if self._logged:
            self._log(self._logged)
        self._worker.process_ended(self._complaint or reason.getErrorMessage())
