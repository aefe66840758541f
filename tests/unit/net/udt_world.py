"""Two simulated hosts with UDT ports, and protocols that record what happens."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.udp import SharedUDPPort
from dwcloud.protocol.udt.configuration import Configuration
from dwcloud.testing import LinkProfile, World

SERVER = ("192.0.2.1", 3345)
CLIENT = ("192.0.2.2", 3346)


class Recorder(Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.data = b""
        self.calls: list[str] = []
        self.reason: Failure | None = None

    def connectionMade(self) -> None:
        self.calls.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.calls.append("data")
        self.data += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.calls.append("lost")
        self.reason = reason


class RecordingFactory(Factory):
    """Makes recorders and keeps them."""

    noisy = False

    def __init__(self, protocol: type[Recorder] = Recorder) -> None:
        self.made: list[Any] = []
        self.addresses: list[Any] = []
        self.running = 0
        self._protocol = protocol

    def startFactory(self) -> None:
        self.running += 1

    def stopFactory(self) -> None:
        self.running -= 1

    def buildProtocol(self, addr: Any) -> Any:
        self.addresses.append(addr)
        self.made.append(self._protocol())
        return self.made[-1]


class UDTWorldTestCase(SynchronousTestCase):
    """A server's and a client's UDP port in a simulated Internet."""

    link = LinkProfile(latency=0.005)
    configuration: Configuration | None = None

    def setUp(self) -> None:
        self.world = World()
        internet = self.world.internet(link=self.link)
        self.server_host = internet.host(SERVER[0])
        self.client_host = internet.host(CLIENT[0])
        self.server_port = self.make_port(self.server_host, SERVER[1])
        self.client_port = self.make_port(self.client_host, CLIENT[1])
        self.server_factory = RecordingFactory()
        self.client_factory = RecordingFactory()

    def make_port(self, host: Any, number: int) -> SharedUDPPort:
        """Return a started port."""
        port = SharedUDPPort(
            host.reactor,
            port=number,
            configuration=self.configuration,
            random_bytes=self.world.random_bytes,
        )
        port.start()
        return port

    def connect(self) -> tuple[Any, Any]:
        """Return the connected protocols of client and server."""
        if self.server_factory.running == 0:
            self.server_port.udt.listen(self.server_factory)
        count = len(self.server_factory.made)
        attempt: Deferred[Any] = self.client_port.udt.connect(
            SERVER, self.client_factory
        )
        client: Any = self.world.run_until(attempt)
        self.world.run_until(lambda: len(self.server_factory.made) > count)
        return client, self.server_factory.made[-1]
