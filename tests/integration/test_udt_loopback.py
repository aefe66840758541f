"""UDT through the real reactor and the real kernel, on loopback."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dwcloud.net import udp
from dwcloud.net.identity import SystemIdentity
from dwcloud.net.tls import PeerVerifier, ServerTLS
from dwcloud.net.udp import PortType, SharedUDPPort, shared_ports
from dwcloud.net.udp_batch import BatchedUDPPort, offload_available
from dwcloud.net.udp_direct import DirectUDPPort
from dwcloud.net.udp_port import PlainUDPPort
from dwcloud.net.udt_endpoints import UDTClientEndpoint, UDTServerEndpoint
from dwcloud.protocol.udt.configuration import Configuration

MEGABYTE = 1_000_000
PATIENT = Configuration(connect_timeout=60.0)
"""For a hundred handshakes at once on a machine with much else to do."""


class HashingProtocol(Protocol):
    """Hashes what comes, sends what it is told to, and closes when both are done."""

    def __init__(self, expected: int, to_send: bytes = b"") -> None:
        self.expected = expected
        self.to_send = to_send
        self.count = 0
        self.hash = hashlib.sha256()
        self.connected_to: Deferred[Any] = Deferred()
        self.complete: Deferred[str] = Deferred()
        self.lost: Deferred[BaseException | None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.connected_to.callback(self)
        self.transport.write(self.to_send)
        self.to_send = b""

    def dataReceived(self, data: bytes) -> None:
        self.count += len(data)
        self.hash.update(data)
        if self.count >= self.expected and not self.complete.called:
            self.complete.callback(self.hash.hexdigest())

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost.callback(reason.value)


@implementer(IPushProducer)
class Source:
    """Produces random data until it has produced enough, then closes."""

    def __init__(self, transport: Any, count: int) -> None:
        self.left = count
        self.hash = hashlib.sha256()
        self._transport = transport
        self._producing = False
        transport.registerProducer(self, True)

    def resumeProducing(self) -> None:
        self._producing = True
        while self._producing and self.left:
            data = os.urandom(min(65536, self.left))
            self.left -= len(data)
            self.hash.update(data)
            self._transport.write(data)
        if not self.left:
            self._transport.unregisterProducer()
            self._transport.loseConnection()

    def pauseProducing(self) -> None:
        self._producing = False

    def stopProducing(self) -> None:
        self._producing = False
        self.left = 0


class Serving(Factory):
    """A factory that hands out the protocols it was given, one after the other."""

    noisy = False

    def __init__(self, protocols: list[Any]) -> None:
        self._protocols = list(protocols)

    def buildProtocol(self, addr: Any) -> Any:
        return self._protocols.pop(0)


def sha256(data: bytes) -> str:
    """Return the hash of ``data`` in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


class LoopbackTestCase(TestCase):
    """Endpoints on loopback, whose ports close with the test."""

    interface = "127.0.0.1"
    port_type: PortType | None = None
    timeout = 150

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        port_type = self.port_type

        class Port(SharedUDPPort):
            def __init__(self, reactor: Any, **options: Any) -> None:
                options["configuration"] = options["configuration"] or PATIENT
                super().__init__(reactor, **options, port_type=port_type)

        self.patch(udp, "SharedUDPPort", Port)

    def tearDown(self) -> Any:
        return gatherResults([port.stop() for port in shared_ports(self.reactor)])

    async def listen(self, factory: Any, **options: Any) -> Any:
        """Listen on a free port of loopback."""
        return await UDTServerEndpoint(
            self.reactor, 0, interface=self.interface, **options
        ).listen(factory)

    def endpoint(self, port: Any, **options: Any) -> UDTClientEndpoint:
        """Return an endpoint that connects to a listening port."""
        return UDTClientEndpoint(
            self.reactor,
            self.interface,
            port.getHost().port,
            bind_address=self.interface,
            **options,
        )


class HostNameTests(LoopbackTestCase):
    """Names, which not every machine has for both families."""

    async def test_host_name(self) -> None:
        """A host name is resolved by the reactor."""
        server, client = HashingProtocol(5), HashingProtocol(0, b"hello")
        port = await self.listen(Serving([server]))
        endpoint = UDTClientEndpoint(
            self.reactor,
            "localhost",
            port.getHost().port,
            bind_address=self.interface,
        )
        await connectProtocol(endpoint, client)
        self.assertEqual(await server.complete, sha256(b"hello"))
        client.transport.loseConnection()  # type: ignore[union-attr]
        await gatherResults([client.lost, server.lost])


class UDTLoopbackTests(LoopbackTestCase):
    """With the kernel's segmentation where it works."""

    async def test_kind_of_port(self) -> None:
        """The port chooses by itself what this machine can do, and carries all."""
        server, client = HashingProtocol(MEGABYTE), HashingProtocol(0, bytes(MEGABYTE))
        listening = await self.listen(Serving([server]))
        await connectProtocol(self.endpoint(listening), client)
        await server.complete
        ports = shared_ports(self.reactor)
        fast = offload_available(self.reactor)
        kind = self.port_type or (BatchedUDPPort if fast else DirectUDPPort)
        self.assertEqual([type(port._port) for port in ports], [kind, kind])
        for port in ports:
            self.assertGreater(port.statistics.datagrams_received, 2)
        received = sum(port.statistics.bytes_received for port in ports)
        self.assertGreater(received, MEGABYTE)
        client.transport.loseConnection()  # type: ignore[union-attr]
        await gatherResults([client.lost, server.lost])

    async def test_both_ways(self) -> None:
        """Megabytes pass in both directions at once, unchanged."""
        up, down = os.urandom(4 * MEGABYTE), os.urandom(3 * MEGABYTE)
        server = HashingProtocol(len(up), down)
        client = HashingProtocol(len(down), up)
        port = await self.listen(Serving([server]))
        await connectProtocol(self.endpoint(port), client)
        self.assertEqual(await server.complete, sha256(up))
        self.assertEqual(await client.complete, sha256(down))
        client.transport.loseConnection()  # type: ignore[union-attr]
        for protocol in (client, server):
            self.assertIsInstance(await protocol.lost, ConnectionDone)

    async def test_nothing_written_is_lost(self) -> None:
        """All that was written before ``loseConnection`` arrives."""
        server = HashingProtocol(1 << 60)
        client = HashingProtocol(0)
        port = await self.listen(Serving([server]))
        await connectProtocol(self.endpoint(port), client)
        source = Source(client.transport, 5 * MEGABYTE)
        source.resumeProducing()
        self.assertIsInstance(await server.lost, ConnectionDone)
        self.assertEqual(server.count, 5 * MEGABYTE)
        self.assertEqual(server.hash.hexdigest(), source.hash.hexdigest())
        await client.lost

    async def test_many_connections(self) -> None:
        """A hundred connections share one port on each side and do not mix."""
        count = 100
        payloads = [os.urandom(20_000) for _ in range(count)]
        servers = [HashingProtocol(20_000) for _ in range(count)]
        clients = [HashingProtocol(0, payload) for payload in payloads]
        port = await self.listen(Serving(servers), backlog=count)
        await gatherResults(
            [connectProtocol(self.endpoint(port), client) for client in clients]
        )
        hashes = await gatherResults([server.complete for server in servers])
        self.assertEqual(sorted(hashes), sorted(sha256(data) for data in payloads))
        self.assertEqual(len(shared_ports(self.reactor)), 2)
        for client in clients:
            client.transport.loseConnection()  # type: ignore[union-attr]
        await gatherResults([protocol.lost for protocol in clients + servers])

    async def test_rendezvous(self) -> None:
        """Two ports that connect to each other meet, and listen afterwards."""
        ports = [
            SharedUDPPort(self.reactor, interface=self.interface) for _ in range(2)
        ]
        for port in ports:
            port.start()
            self.addCleanup(port.stop)
        data = os.urandom(MEGABYTE)
        one, two = HashingProtocol(0, data), HashingProtocol(MEGABYTE)
        await gatherResults(
            [
                ports[0].udt.rendezvous(ports[1].getHost(), Serving([one])),
                ports[1].udt.rendezvous(ports[0].getHost(), Serving([two])),
            ]
        )
        self.assertEqual(await two.complete, sha256(data))
        three, four = HashingProtocol(MEGABYTE), HashingProtocol(0, data)
        ports[0].udt.listen(Serving([three]))
        await ports[1].udt.connect(ports[0].getHost(), Serving([four]))
        self.assertEqual(await three.complete, sha256(data))
        for protocol in (one, four):
            protocol.transport.loseConnection()  # type: ignore[union-attr]
        await gatherResults([p.lost for p in (one, two, three, four)])

    async def test_tls(self) -> None:
        """TLS runs over UDT as over TCP, and verifies the far end."""
        identity = SystemIdentity.generate().issue_server()
        data = os.urandom(2 * MEGABYTE)
        server = HashingProtocol(len(data))
        client = HashingProtocol(0, data)
        port = await self.listen(
            TLSMemoryBIOFactory(ServerTLS(identity), False, Serving([server]))
        )
        endpoint = wrapClientTLS(PeerVerifier(identity.name), self.endpoint(port))
        await connectProtocol(endpoint, client)
        self.assertEqual(await server.complete, sha256(data))
        client.transport.loseConnection()  # type: ignore[union-attr]
        self.assertIsInstance(await server.lost, ConnectionDone)
        self.assertIsInstance(await client.lost, ConnectionDone)

    async def test_slow_reader(self) -> None:
        """A reader that does not read bounds memory on both sides."""
        configuration = Configuration(
            connect_timeout=60.0, receive_buffer_packets=256, send_buffer_limit=500_000
        )
        server, client = HashingProtocol(10 * MEGABYTE), HashingProtocol(0)
        port = await self.listen(Serving([server]), configuration=configuration)
        endpoint = self.endpoint(port, configuration=configuration)
        await connectProtocol(endpoint, client)
        await server.connected_to
        server.transport.pauseProducing()  # type: ignore[union-attr]
        transport: Any = client.transport
        source = Source(transport, 10 * MEGABYTE)
        source.resumeProducing()
        await deferLater(self.reactor, 0.5)
        produced = 10 * MEGABYTE - source.left
        self.assertEqual(server.count, 0)
        self.assertLess(produced, 258 * 1456 + 500_000 + 65536)
        self.assertLessEqual(transport._connection.send_buffer_bytes, 565_536)
        receiving: Any = server.transport
        self.assertLessEqual(receiving._connection.readable_bytes, 258 * 1456)
        server.transport.resumeProducing()  # type: ignore[union-attr]
        self.assertEqual(await server.complete, source.hash.hexdigest())
        await gatherResults([client.lost, server.lost])

    async def test_port_closes_after_use(self) -> None:
        """When the last connection is closed the sockets close by themselves."""
        server, client = HashingProtocol(0), HashingProtocol(0)
        port = await self.listen(Serving([server]))
        await connectProtocol(self.endpoint(port), client)
        await port.stopListening()
        client.transport.loseConnection()  # type: ignore[union-attr]
        await gatherResults([client.lost, server.lost])
        while shared_ports(self.reactor):
            await deferLater(self.reactor, 0.01)


class UDTLoopbackIPv6Tests(UDTLoopbackTests):
    """The same over IPv6."""

    interface = "::1"


class UDTLoopbackDirectTests(UDTLoopbackTests):
    """The same without the kernel's segmentation."""

    port_type = DirectUDPPort


class UDTLoopbackPlainTests(UDTLoopbackTests):
    """The same on Twisted's own UDP port."""

    port_type = PlainUDPPort
