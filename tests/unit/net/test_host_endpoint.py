"""Endpoints of hosts that are given by name or by address."""

from twisted.internet.error import ConnectingCancelledError, ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.host_endpoint import host_endpoint
from dwcloud.testing import World


class HostEndpointTests(SynchronousTestCase):
    """An address is connected to at once, a name after it was looked up."""

    def _attempt(self, host: str, interface: str = "") -> tuple[object, ...]:
        reactor = MemoryReactorClock()
        endpoint = host_endpoint(reactor, host, 3349, timeout=7, interface=interface)
        endpoint.connect(Factory.forProtocol(Protocol))
        ((to, port, _, timeout, bind),) = reactor.tcpClients
        return to, port, timeout, bind

    def test_ipv4(self) -> None:
        """An IPv4 address."""
        self.assertEqual(self._attempt("192.0.2.1"), ("192.0.2.1", 3349, 7, None))

    def test_ipv6(self) -> None:
        """An IPv6 address."""
        self.assertEqual(self._attempt("2001:db8::1"), ("2001:db8::1", 3349, 7, None))

    def test_interface(self) -> None:
        """The connection begins where it is told to."""
        self.assertEqual(
            self._attempt("192.0.2.1", "192.0.2.9"),
            ("192.0.2.1", 3349, 7, ("192.0.2.9", 0)),
        )

    def test_cancelled(self) -> None:
        """Giving up looks the same by address and by name."""
        world = World()
        here = world.internet().host("192.0.2.2")
        world.add_name("relay.example", "192.0.2.1")
        for host in ("192.0.2.1", "relay.example"):
            endpoint = host_endpoint(here.reactor, host, 3349, timeout=7)
            connecting = endpoint.connect(Factory.forProtocol(Protocol))
            world.advance(1.0)
            connecting.cancel()
            self.failureResultOf(connecting, ConnectingCancelledError)

    def test_refused(self) -> None:
        """A port that nobody listens at is told as such."""
        world = World()
        internet = world.internet()
        there, here = internet.host("192.0.2.1"), internet.host("192.0.2.2")
        endpoint = host_endpoint(here.reactor, there.address, 3349, timeout=7)
        connecting = endpoint.connect(Factory.forProtocol(Protocol))
        self.assertRaises(ConnectionRefusedError, world.run_until, connecting)

    def test_name(self) -> None:
        """A name is looked up."""
        world = World()
        internet = world.internet()
        there, here = internet.host("192.0.2.1"), internet.host("192.0.2.2")
        world.add_name("relay.example", there.address)
        there.reactor.listenTCP(3349, Factory.forProtocol(Protocol))
        endpoint = host_endpoint(here.reactor, "relay.example", 3349, timeout=7)
        protocol = world.run_until(endpoint.connect(Factory.forProtocol(Protocol)))
        assert protocol is not None
        transport = protocol.transport
        assert transport is not None
        self.assertEqual(transport.getPeer().host, there.address)  # type: ignore[attr-defined]
