"""The far side of :mod:`benchmarks.tunnelling`: a service, a proxy, a long cable.

``python -m benchmarks.tunnelling_peer`` runs them until its standard input ends, and
prints their ports as one line of JSON.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from zope.interface import implementer

from benchmarks.usage import say
from dwcloud.net.http_messages import Routes, UpgradeRoute
from dwcloud.net.http_server import HTTPServerFactory
from dwcloud.net.tunnel_server import TunnelServer
from dwcloud.testing.proxy import BadProxy, Defects

__all__ = ["HOST", "PATH", "TOKEN"]

HOST = "127.0.0.1"
PATH = "/measure"
TOKEN = "measure"

_BLOCK = bytes(64 * 1024)
_BUFFERING = Defects(
    connect_ports=(), strips_upgrade=True, buffers_requests=True, buffers_answers=True
)


@implementer(IHalfCloseableProtocol, IPushProducer)
class _Service(Protocol):
    """Takes bytes and counts them, or gives as many as are taken.

    The first byte says which: U takes, and tells the count at the end; D gives.
    """

    transport: Any

    def __init__(self) -> None:
        self._count = 0
        self._kind = b""
        self._paused = False

    def dataReceived(self, data: bytes) -> None:
        if not self._kind:
            self._kind, data = data[:1], data[1:]
            if self._kind == b"D":
                self.transport.registerProducer(self, True)
                self.resumeProducing()
        self._count += len(data)

    def readConnectionLost(self) -> None:
        if self._kind == b"U":
            self.transport.write(self._count.to_bytes(8, "big"))
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def resumeProducing(self) -> None:
        self._paused = False
        self._give()

    def _give(self) -> None:
        from twisted.internet import reactor

        if self._paused:
            return
        self.transport.write(_BLOCK)
        clock: Any = reactor
        clock.callLater(0, self._give)

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._paused = True

    def connectionLost(self, reason: Any = None) -> None:
        self._paused = True


@implementer(IHalfCloseableProtocol)
class _End(Protocol):
    """One end of a cable; what comes is written to the other end later."""

    transport: Any

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._early: list[tuple[str, bytes]] = []
        self.other: _End | None = None

    def _later(self, what: str, data: bytes = b"") -> None:
        from twisted.internet import reactor

        clock: Any = reactor
        clock.callLater(self._delay, self._pass_on, what, data)

    def _pass_on(self, what: str, data: bytes) -> None:
        if self.other is None:
            self._early.append((what, data))
        elif what == "data":
            self.other.transport.write(data)
        elif what == "half":
            self.other.transport.loseWriteConnection()
        else:
            self.other.transport.loseConnection()

    def joined(self, other: _End) -> None:
        """Pass on what came before."""
        self.other = other
        early, self._early = self._early, []
        for what, data in early:
            self._pass_on(what, data)

    def dataReceived(self, data: bytes) -> None:
        self._later("data", data)

    def readConnectionLost(self) -> None:
        self._later("half")

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Any = None) -> None:
        self._later("end")


class _Cable(Factory):
    """Connections to a port that take their time."""

    noisy = False

    def __init__(self, reactor: Any, port: int, round_trip: float) -> None:
        self._reactor = reactor
        self._port = port
        self._round_trip = round_trip

    def buildProtocol(self, addr: Any) -> Protocol:
        near = _End(self._round_trip / 2)

        def connect() -> None:
            factory = Factory.forProtocol(lambda: _Far(near, self._round_trip / 2))
            factory.noisy = False
            endpoint = TCP4ClientEndpoint(self._reactor, HOST, self._port)
            endpoint.connect(factory)

        # A handshake takes a round trip before the first byte goes.
        self._reactor.callLater(self._round_trip, connect)
        return near


class _Far(_End):
    """The end of a cable that leads to the port."""

    def __init__(self, near: _End, delay: float) -> None:
        super().__init__(delay)
        self._near = near

    def connectionMade(self) -> None:
        self.joined(self._near)
        self._near.joined(self)


class _Input(Protocol):
    """Waits for the end of standard input."""

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(None)


async def _run(reactor: Any, round_trip: float) -> None:
    def listen(factory: Any) -> int:
        port = reactor.listenTCP(0, factory, interface=HOST)
        number: int = port.getHost().port
        return number

    services: Any = Factory.forProtocol(_Service)
    services.noisy = False
    routes = Routes()
    routes.add("GET", f"{PATH}/upgrade", UpgradeRoute(TOKEN, services))
    service = listen(HTTPServerFactory(TunnelServer(reactor, routes), reactor))
    raw = listen(services)
    proxy = listen(BadProxy(reactor, _BUFFERING))
    say(
        service=service,
        raw=listen(_Cable(reactor, raw, round_trip)) if round_trip else raw,
        proxy=listen(_Cable(reactor, proxy, round_trip)) if round_trip else proxy,
    )
    waiting = _Input()
    StandardIO(waiting)
    await waiting.ended


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(_run(reactor, float(sys.argv[1]))))
