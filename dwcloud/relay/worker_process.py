"""A worker of ``twistd relay --workers``, as :mod:`dwcloud.relay.workers` starts it.

``python -m dwcloud.relay.worker_process NUMBER WORKERS RESTARTS [OPTION]...`` reads the
options of the relay that it is a part of. Its log goes to the process that started it,
which also tells it when to stop: signals that reach the whole group are that one's.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import (
    Deferred,
    gatherResults,
    inlineCallbacks,
    maybeDeferred,
)
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.stdio import StandardIO
from twisted.internet.unix import Port as UNIXPort
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    eventAsText,
    globalLogBeginner,
)
from twisted.protocols.basic import LineReceiver
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python import usage
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.errors import ConfigurationError
from dwcloud.net.listening import parse_endpoint
from dwcloud.relay.service import RelayService
from dwcloud.relay.tap import Options, make_relay
from dwcloud.relay.workers import CLOSED, END_DRAIN, FIRST_DESCRIPTOR, READY, STOP
from dwcloud.relay.workmates import Workmates

__all__ = ["main"]


class _InheritedPort:
    """A reactor for an endpoint that is to listen on an open socket.

    :param descriptor: of that socket.
    """

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def _adopt(self, factory: IProtocolFactory) -> IListeningPort:
        with socket.socket(fileno=self._descriptor) as port:
            adopted: IListeningPort = self._reactor.adoptStreamPort(
                port.fileno(), port.family, factory
            )
            return adopted

    def listenTCP(
        self, port: int, factory: IProtocolFactory, *args: object, **kwargs: object
    ) -> IListeningPort:
        """Accept what comes in clear."""
        return self._adopt(factory)

    def listenUNIX(
        self, address: str, factory: IProtocolFactory, *args: object, **kwargs: object
    ) -> IListeningPort:
        """Accept what comes from this machine."""
        return self._adopt(factory)

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: Any,
        *args: object,
        **kwargs: object,
    ) -> IListeningPort:
        """Accept what comes with TLS."""
        return self._adopt(TLSMemoryBIOFactory(contextFactory, False, factory))


class _Ports(Service):
    """What this process listens on, closed by the relay when it stops.

    :param closed: called when it is.
    """

    def __init__(self, closed: Callable[[], None]) -> None:
        self.ports: list[IListeningPort] = []
        self._closed = closed

    def stopService(self) -> Deferred[Any]:
        """Accept nothing more."""
        super().stopService()  # type: ignore[no-untyped-call]
        closing = []
        for port in self.ports:
            if isinstance(port, UNIXPort):
                # Its name is removed by the process that opened it.
                port.stopReading()
                port.socket.close()
            else:
                closing.append(maybeDeferred(port.stopListening))
        self.ports.clear()
        return gatherResults(closing).addCallback(lambda _: self._closed())


class _Worker(LineReceiver):
    """Serves, and does what it is told."""

    log = Logger()
    delimiter = b"\r\n"

    def __init__(self, reactor: Any, options: Options, position: Iterable[int]) -> None:
        number, workers, restarts = position
        inbox, first_port = FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + 1 + workers
        self._reactor = reactor
        self._ports = _Ports(self._tell_closed)
        self._drain: float = options["drain"]
        self._stopping = False
        self._workmates = Workmates(
            reactor,
            number,
            socket.socket(fileno=inbox),
            [socket.socket(fileno=n) for n in range(inbox + 1, first_port)],
            restarts=restarts,
        )
        self._relay: RelayService = make_relay(
            options, reactor, (), workmates=self._workmates
        )
        self._relay.startService()
        self._ports.setServiceParent(self._relay)  # type: ignore[no-untyped-call]
        for descriptor, description in enumerate(options["listen"], first_port):
            endpoint = parse_endpoint(_InheritedPort(reactor, descriptor), description)
            failures: list[Failure] = []
            endpoint.listen(self._relay.http).addCallbacks(
                self._ports.ports.append, failures.append
            )
            for failure in failures:
                raise SystemExit(f"{description}: {failure.getErrorMessage()}")

    def connectionMade(self) -> None:
        """The other process is there."""
        self.sendLine(READY)  # type: ignore[no-untyped-call]

    def _tell_closed(self) -> None:
        self.sendLine(CLOSED)  # type: ignore[no-untyped-call]

    def lineReceived(self, line: bytes) -> None:
        """The other process tells what to do."""
        if line == STOP:
            self._stop()
        elif line == END_DRAIN:
            self._end_drain()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """The other process is gone, and with it all who would listen again."""
        self._end_drain()
        self._stop()

    def _end_drain(self) -> None:
        self._drain = 0.0
        self._relay.end_drain()
        self._workmates.stop()

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._workmates.stop_giving()
        ending: Deferred[Any] = self._end()
        ending.addErrback(lambda f: self.log.failure("this worker ended badly", f))
        ending.addBoth(lambda _: self._reactor.stop())

    @inlineCallbacks
    def _end(self) -> Any:
        yield self._relay.stopService()
        if self._drain:
            # Tunnels of other workers whose TLS ends here.
            yield self._workmates.legs_ended()
        self._workmates.stop()


@implementer(ILogObserver)
def _log(event: LogEvent) -> None:
    level = event.get("log_level", LogLevel.info).name
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    session = event.get("connect_session_id")
    print(json.dumps([level, text, session]), file=sys.stderr, flush=True)


def main() -> None:
    """Serve until told to stop."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    globalLogBeginner.beginLoggingTo([_log], redirectStandardIO=False)
    from twisted.internet import reactor as _reactor

    reactor: Any = _reactor
    options = Options()
    try:
        options.parseOptions(sys.argv[4:])
        worker = _Worker(reactor, options, map(int, sys.argv[1:4]))
    except (ConfigurationError, usage.UsageError) as e:
        raise SystemExit(str(e)) from e
    StandardIO(worker, reactor=reactor)
    reactor.run(installSignalHandlers=False)


if __name__ == "__main__":
    main()
