"""A relay, and streams to it by one tunnelling method."""

from __future__ import annotations

import hashlib
from typing import Any

from twisted.internet.endpoints import (
    connectProtocol,
)
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tunnel_endpoints import TunnelEndpoint
from dwcloud.protocol.tunnelling.methods import (
    PROBE_PATH,
    PROBE_TOKEN,
)
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.testing.proxy import BadProxy, Defects
from tests.unit.net.stream_world import Recorder, pattern
from tests.unit.relay.relay_world import RelayTestCase


@implementer(IHalfCloseableProtocol)
class Digester(Protocol):
    """Reads to the end of the other direction and answers with what that was."""

    transport: Any

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def dataReceived(self, data: bytes) -> None:
        self.hash.update(data)

    def readConnectionLost(self) -> None:
        self.transport.write(self.hash.digest())
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass


def holds(recorder: Recorder, size: int) -> bool:
    """Whether so many bytes have come."""
    return len(recorder.data) == size


@implementer(IPullProducer)
class Endless:
    """Writes whenever it is asked.

    :ivar written: how many bytes.
    """

    def __init__(self, transport: Any) -> None:
        self.written = 0
        self._transport = transport
        self._stopped = False
        transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        if not self._stopped:
            self.written += 50_000
            self._transport.write(bytes(50_000))

    def stopProducing(self) -> None:
        self._stopped = True


class MethodTestCase(RelayTestCase):
    """A test with each method and, where wanted, a proxy."""

    proxy_port: Any = None

    def proxies(self, host: Any, defects: Defects | None = None) -> Proxies:
        """A proxy beside the relay, for ``host``."""
        relay = self.relay_host
        self.proxy = BadProxy(relay.reactor, defects)
        self.proxy_port = relay.reactor.listenTCP(3128, self.proxy)
        self.addCleanup(self.stop_proxy)
        proxy = Proxy(relay.address, 3128)
        return Proxies(host.reactor, ProxySettings.of(proxy))

    def stop_proxy(self) -> None:
        """Close its port."""
        port, self.proxy_port = self.proxy_port, None
        if port is not None:
            port.stopListening()

    def exchange(self, method: str, size: int = 300_000, **options: Any) -> Recorder:
        """Send bytes to an echo through the relay and get them back."""
        recorder = Recorder()
        endpoint = self.client(method=method, **options)
        self.world.run_until(connectProtocol(endpoint, recorder), 60.0)
        recorder.transport.write(pattern(size))
        self.world.run_until(lambda: len(recorder.data) >= size, 120.0)
        self.assertEqual(bytes(recorder.data), pattern(size))
        return recorder

    def probe(self, method: str) -> TunnelEndpoint:
        """The endpoint of a tunnel that leads nowhere."""
        return TunnelEndpoint(
            self.client_host.reactor,
            ServiceURL.parse(self.url),
            PROBE_PATH,
            PROBE_TOKEN,
            method=method,
        )

    def tunnels(self) -> int:
        """How many are open at the relay."""
        tunnels: int = self.statistics()["now"]["tunnels"]
        return tunnels
