"""Tests of the UDT endpoints in a simulated network."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import CannotListenError, DNSLookupError
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dwcloud.errors import UDTHandshakeTimeout
from dwcloud.net.udp import shared_port, shared_ports
from dwcloud.net.udt_endpoints import UDTClientEndpoint, UDTServerEndpoint
from dwcloud.testing import World

from .udt_world import RecordingFactory


class UDTEndpointTests(SynchronousTestCase):
    """Clients and servers as any Twisted program makes them."""

    def setUp(self) -> None:
        self.world = World()
        internet = self.world.internet()
        self.one = internet.host("192.0.2.1", "2001:db8::1").reactor
        self.two = internet.host("192.0.2.2", "2001:db8::2").reactor
        self.server_factory = RecordingFactory()
        self.client_factory = RecordingFactory()

    def listen(self, description: str = "udt:3345") -> Any:
        """Listen on the first host."""
        endpoint = serverFromString(self.one, description)
        return self.successResultOf(endpoint.listen(self.server_factory))

    def connect(self, description: str) -> Any:
        """Connect from the second host."""
        endpoint = clientFromString(self.two, description)
        return self.world.run_until(endpoint.connect(self.client_factory))

    def exchange(self, client: Any) -> None:
        """Check that bytes pass both ways."""
        client.transport.write(b"question")
        self.world.advance(1)
        server = self.server_factory.made[-1]
        self.assertEqual(server.data, b"question")
        server.transport.write(b"answer")
        self.world.advance(1)
        self.assertEqual(client.data, b"answer")

    def test_interfaces(self) -> None:
        """The endpoints provide what Twisted expects."""
        client = UDTClientEndpoint(self.one, "::1", 5)
        server = UDTServerEndpoint(self.one, 5, interface="::1")
        self.assertTrue(verifyObject(IStreamClientEndpoint, client))
        self.assertTrue(verifyObject(IStreamServerEndpoint, server))
        self.assertEqual(repr(client), "<UDTClientEndpoint [::1]:5>")
        self.assertEqual(repr(server), "<UDTServerEndpoint [::1]:5>")

    def test_ipv4(self) -> None:
        """By numeric address."""
        port = self.listen()
        self.assertEqual(port.getHost(), IPv4Address("UDP", "0.0.0.0", 3345))
        self.exchange(self.connect("udt:192.0.2.1:3345"))

    def test_ipv6(self) -> None:
        """By numeric address over IPv6."""
        self.listen("udt:3345:interface=\\:\\:")
        self.exchange(self.connect("udt:2001\\:db8\\:\\:1:3345"))

    def test_name(self) -> None:
        """By host name; an address where nobody answers is passed over."""
        self.world.add_name("server.example", "192.0.2.77", "192.0.2.1")
        self.listen()
        self.exchange(self.connect("udt:server.example:3345"))

    def test_name_and_bind_address(self) -> None:
        """Of a name only the addresses of the local address's family count."""
        self.world.add_name("server.example", "2001:db8::1", "192.0.2.1")
        self.listen()
        self.exchange(self.connect("udt:server.example:3345:bindAddress=192.0.2.2"))
        [port] = shared_ports(self.two)
        self.assertEqual(port.getHost().host, "192.0.2.2")
        self.world.add_name("six.example", "2001:db8::1")
        endpoint = UDTClientEndpoint(
            self.two, "six.example", 3345, bind_address="192.0.2.2"
        )
        attempt = endpoint.connect(self.client_factory)
        self.world.advance(1)
        self.failureResultOf(attempt, DNSLookupError)

    def test_unknown_name(self) -> None:
        """A name without address fails the connection."""
        attempt = UDTClientEndpoint(self.two, "nowhere.example", 1).connect(
            self.client_factory
        )
        self.world.advance(1)
        self.failureResultOf(attempt, DNSLookupError)

    def test_no_resolver(self) -> None:
        """A reactor without resolver connects to addresses only."""
        attempt = UDTClientEndpoint(Clock(), "server.example", 1).connect(
            self.client_factory
        )
        self.failureResultOf(attempt, DNSLookupError)

    def test_nobody_there(self) -> None:
        """An attempt without answer fails, and its port closes."""
        attempt = UDTClientEndpoint(self.two, "192.0.2.1", 1, timeout=1).connect(
            self.client_factory
        )
        self.world.advance(0.9)
        self.assertNoResult(attempt)
        self.world.advance(5)
        self.failureResultOf(attempt, UDTHandshakeTimeout)
        self.assertEqual(shared_ports(self.two), [])
        self.assertEqual(self.two.getDelayedCalls(), [])

    def test_cancel(self) -> None:
        """Cancelling works while the name is looked up and while connecting."""
        self.world.name_lookup_delay = 1.0
        self.world.add_name("server.example", "192.0.2.1")
        for delay in (0.5, 1.5):
            endpoint = UDTClientEndpoint(self.two, "server.example", 1)
            attempt = endpoint.connect(self.client_factory)
            self.world.advance(delay)
            attempt.cancel()
            self.failureResultOf(attempt, CancelledError)
            self.world.advance(5)
            self.assertEqual(self.two.getDelayedCalls(), [])

    def test_one_port_for_all(self) -> None:
        """All clients that do not care for their port share one."""
        self.listen()
        for _ in range(5):
            self.connect("udt:192.0.2.1:3345")
        self.assertEqual(len(shared_ports(self.two)), 1)
        self.connect("udt:192.0.2.1:3345:localPort=4000")
        self.assertEqual(len(shared_ports(self.two)), 2)
        self.assertEqual(self.server_factory.addresses[-1].port, 4000)

    def test_connect_from_the_listening_port(self) -> None:
        """A client may use the port of a listener, and the listener goes on."""
        self.listen()
        serverFromString(self.two, "udt:4000").listen(RecordingFactory())
        self.exchange(self.connect("udt:192.0.2.1:3345:localPort=4000"))
        self.assertEqual(len(shared_ports(self.two)), 1)

    def test_rendezvous(self) -> None:
        """Two clients meet when both say rendezvous."""
        one = clientFromString(
            self.one, "udt:192.0.2.2:4000:localPort=3345:rendezvous=yes"
        ).connect(self.server_factory)
        self.world.advance(1)
        client = self.connect("udt:192.0.2.1:3345:localPort=4000:rendezvous=yes")
        self.world.run_until(one)
        self.exchange(client)

    def test_port_in_use(self) -> None:
        """A second listener on a port fails, and so does a taken socket."""
        self.listen()
        endpoint = UDTServerEndpoint(self.one, 3345)
        self.failureResultOf(endpoint.listen(RecordingFactory()), CannotListenError)
        from twisted.internet.protocol import DatagramProtocol

        self.one.listenUDP(3346, DatagramProtocol())
        endpoint = UDTServerEndpoint(self.one, 3346)
        self.failureResultOf(endpoint.listen(RecordingFactory()), CannotListenError)

    def test_listening_port_closes(self) -> None:
        """A listener that stops gives the UDP port back once it is unused."""
        port = self.listen()
        self.world.run_until(port.stopListening())
        self.assertEqual(shared_ports(self.one), [])
        port = self.listen()
        client = self.connect("udt:192.0.2.1:3345")
        self.world.run_until(port.stopListening())
        self.exchange(client)
        client.transport.loseConnection()
        self.world.advance(5)
        self.assertEqual(shared_ports(self.one), [])
        self.assertEqual(self.one.getDelayedCalls(), [])
        self.assertFalse(shared_port(self.one, port=3345) is None)
