"""Tunnels to an echo by each method, and what became of each.

As a program it does so in another machine's network: ``python -m
tests.interop.tunnel_cases serve PORT`` serves the echo, ``try URL`` tries all methods
at once and prints one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react
from twisted.python.failure import Failure

from dwcloud.net.http_client import HTTPClientConnection
from dwcloud.net.http_messages import Routes, UpgradeRoute
from dwcloud.net.http_server import HTTPServerFactory
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tunnel_endpoints import TunnelEndpoint
from dwcloud.net.tunnel_opening import open_by
from dwcloud.net.tunnel_server import TunnelServer
from dwcloud.protocol.tunnelling.methods import METHOD_NAMES, Opening
from dwcloud.protocol.tunnelling.prober import Carrier
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = [
    "ECHO_PATH",
    "PATIENCE",
    "EchoSite",
    "Outcome",
    "first_byte",
    "try_method",
    "try_methods",
]

ECHO_PATH = "/echo/tunnel"
PATIENCE = 60.0
"""Seconds for a method that works, on a machine with much else to do."""
_TOKEN = "dwcloud-echo"

Connect = Callable[[], "Deferred[HTTPClientConnection]"]


class _Echo(Protocol):
    """Sends back what it gets."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class EchoSite(HTTPServerFactory):
    """An HTTP server with a tunnel to an echo at :data:`ECHO_PATH`."""

    def __init__(self, reactor: Any) -> None:
        routes = Routes()
        factory: Any = Factory.forProtocol(_Echo)
        routes.add("GET", f"{ECHO_PATH}/upgrade", UpgradeRoute(_TOKEN, factory))
        self._tunnels = TunnelServer(reactor, routes)
        super().__init__(self._tunnels, reactor)

    def stop(self) -> None:
        """End all tunnels and connections."""
        self._tunnels.stop()
        self.disconnect_all()


@attrs.frozen
class Outcome:
    """What became of a tunnel.

    :ivar stage: ``"carries"``, or where it failed: ``"opening"`` before the tunnel was
        said to be open, ``"carrying"`` after.
    :ivar reason: why it failed.
    """

    stage: str
    reason: str = ""

    @property
    def works(self) -> bool:
        """Whether all bytes came through, both ways."""
        return self.stage == "carries"


class _Asker(Protocol):
    """Sends bytes in pieces of all sizes and waits until they have come back.

    :param pauses: seconds of silence, each before another piece like the first.
    """

    transport: Any

    def __init__(self, reactor: Any, size: int, pauses: Iterable[float]) -> None:
        self._reactor = reactor
        self._pauses = list(pauses)
        self._size = size
        self._start(size)
        self.done: Deferred[None] = Deferred()

    def _start(self, size: int) -> None:
        self._sent = os.urandom(size)
        self._missing = size
        self._digest = hashlib.sha256()

    def connectionMade(self) -> None:
        at, piece = 0, 1
        while at < len(self._sent):
            self.transport.write(self._sent[at : at + piece])
            at, piece = at + piece, piece * 3

    def dataReceived(self, data: bytes) -> None:
        self._digest.update(data)
        self._missing -= len(data)
        if self._missing > 0 or self.done.called:
            return
        if self._digest.digest() != hashlib.sha256(self._sent).digest():
            self.done.errback(ValueError("other bytes came back"))
        elif not self._pauses:
            self.done.callback(None)
        else:
            self._reactor.callLater(self._pauses.pop(0), self._again)

    def _again(self) -> None:
        if not self.done.called:
            self._start(self._size)
            self.connectionMade()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        if not self.done.called:
            self.done.errback(reason)


async def try_method(
    reactor: Any,
    method: str,
    connect: Connect,
    *,
    path: str = ECHO_PATH,
    size: int = 300_000,
    limit: float = PATIENCE,
    pauses: Iterable[float] = (),
) -> Outcome:
    """Open a tunnel to the echo and have bytes sent back through it.

    :param size: of the bytes.
    :param limit: seconds to open it, and again for the bytes.
    :param pauses: seconds of silence between further bytes of the same size.
    """
    opening: Deferred[Any] = open_by(reactor, method, connect, Opening(path, _TOKEN))
    try:
        tunnel = await opening.addTimeout(limit, reactor)
    except Exception as error:
        return Outcome("opening", f"{type(error).__name__}: {error}")
    asker = _Asker(reactor, size, pauses)
    tunnel.connect(asker)
    try:
        await asker.done.addTimeout(limit, reactor)
    except Exception as error:
        return Outcome("carrying", f"{type(error).__name__}: {error}")
    finally:
        asker.transport.abortConnection()
    return Outcome("carries")


async def first_byte(
    reactor: Any, url: ServiceURL, proxies: Proxies
) -> tuple[str, float]:
    """Open a tunnel by whatever works, and have one byte sent back through it.

    :return: the tunnelling method, and the seconds until the byte was back.
    """
    began = reactor.seconds()
    endpoint = TunnelEndpoint(reactor, url, ECHO_PATH, _TOKEN, proxies=proxies)
    tunnel = await endpoint.open()
    asker = _Asker(reactor, 1, ())
    tunnel.connect(asker)
    try:
        await asker.done
    finally:
        asker.transport.abortConnection()
    return tunnel.method, reactor.seconds() - began


async def try_methods(
    reactor: Any,
    connects: dict[str, Connect],
    limit: Callable[[str, str], float] = lambda carrier, method: PATIENCE,
    **options: Any,
) -> dict[str, Outcome]:
    """Try all methods by several carriers, all at once.

    :param connects: what makes the connections of each carrier.
    :param limit: seconds for a method by a carrier, as of :func:`try_method`.
    :return: outcomes by ``"carrier method"``.
    """
    trying = {
        f"{carrier} {method}": Deferred.fromCoroutine(
            try_method(
                reactor, method, connect, limit=limit(carrier, method), **options
            )
        )
        for carrier, connect in connects.items()
        for method in METHOD_NAMES
    }
    outcomes = await gatherResults(trying.values())
    return dict(zip(trying, outcomes, strict=True))


async def _program(reactor: Any, what: str, where: str) -> None:
    if what == "serve":
        reactor.listenTCP(int(where), EchoSite(reactor))
        await Deferred()
        return
    service = ServiceURL.parse(where)
    proxies = Proxies(reactor)
    connects = {"direct": lambda: proxies.destination(service).connect(Carrier.DIRECT)}
    outcomes = await try_methods(reactor, connects)
    print(json.dumps({k: attrs.asdict(v) for k, v in outcomes.items()}))


if __name__ == "__main__":
    react(lambda *words: Deferred.fromCoroutine(_program(*words)), sys.argv[1:])
