"""Sockets of both versions of IP with one port number, of the system."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    connectProtocol,
)
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from dwcloud.net.dual_udp import DualUDPPort
from dwcloud.net.ipv6_only import listen_tcp_ipv6
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.stun.binding import binding_request


class Naming(Protocol):
    """Says which socket took the connection."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.factory.name)  # type: ignore[attr-defined]
        self.transport.loseConnection()


class Reading(Protocol):
    """Keeps all that comes."""

    def __init__(self) -> None:
        self.received = b""
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: object = None) -> None:
        self.done.callback(self.received)


def naming(name: bytes) -> Factory:
    """Return a factory for one of the sockets."""
    factory = Factory.forProtocol(Naming)
    factory.name = name
    factory.noisy = False
    return factory


class SocketTests(TestCase):
    """On this very machine, by its loopback."""

    def setUp(self) -> None:
        """Take the reactor that the tests run in."""
        from twisted.internet import reactor

        self.reactor: Any = reactor

    async def test_tcp(self) -> None:
        """One port number has a socket of each version, which takes its own alone."""
        ipv4 = self.reactor.listenTCP(0, naming(b"four"))
        self.addCleanup(ipv4.stopListening)
        port = ipv4.getHost().port
        ipv6 = listen_tcp_ipv6(self.reactor, port, naming(b"six"))
        self.addCleanup(ipv6.stopListening)
        self.assertEqual(ipv6.getHost().port, port)
        for endpoint, expected in (
            (TCP4ClientEndpoint(self.reactor, "127.0.0.1", port), b"four"),
            (TCP6ClientEndpoint(self.reactor, "::1", port), b"six"),
        ):
            reading = await connectProtocol(endpoint, Reading())
            self.assertEqual(await reading.done, expected)
        self.assertRaises(
            CannotListenError, listen_tcp_ipv6, self.reactor, port, naming(b"another")
        )

    async def test_udp(self) -> None:
        """Each version goes by its own socket, of one port number, in its own form."""
        heard: dict[str, Deferred[int]] = {"127.0.0.1": Deferred(), "::1": Deferred()}
        ports = [DualUDPPort(self.reactor, wants_ipv6=lambda: True) for _ in range(2)]
        for port in ports:
            port.start()
            self.addCleanup(port.stop)

        def take(data: bytes, address: Address) -> None:
            heard[address.host].callback(address.port)

        near, far = ports
        far.onSTUN = take
        for host in heard:
            message = binding_request(bytes(12)).encode()
            near.sendDatagram(message, Address(host, far.getHost().port))
        number = near.getHost().port
        self.assertEqual(await gatherResults(list(heard.values())), [number, number])
