"""A UDP port of two sockets."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, NoRouteError
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.dual_udp import DualUDPPort
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.stun.binding import binding_request
from dwcloud.testing import World

V4, V6 = "198.51.100.1", "2001:db8::1"
FAR_V4, FAR_V6 = "198.51.100.2", "2001:db8::2"


class DualUDPPortTests(SynchronousTestCase):
    """Which socket does what."""

    def setUp(self) -> None:
        self.world = World()
        internet = self.world.internet()
        self.host = internet.host(V4, V6, name="host")
        self.far = internet.host(FAR_V4, FAR_V6, name="far")
        self.wanted = True

    def make(
        self, port: int = 0, *, far: bool = False, interface: str = ""
    ) -> DualUDPPort:
        """Return a port that is open."""
        made = DualUDPPort(
            (self.far if far else self.host).reactor,
            interface=interface,
            port=port,
            wants_ipv6=lambda: self.wanted,
        )
        made.start()
        return made

    def test_same_number(self) -> None:
        """Both sockets have one number, the one asked for or another."""
        for port in (self.make(), self.make(4000)):
            numbers = {each.getHost().port for each in port.ports.values()}
            self.assertEqual(sorted(port.ports), [4, 6])
            self.assertEqual(len(numbers), 1)
        self.assertEqual(numbers, {4000})

    def test_number_taken(self) -> None:
        """A number that is taken in IPv6 is left to that; in IPv4 it is an error."""
        self.host.reactor.listenUDP(4000, DatagramProtocol(), interface="::")
        port = self.make(4000)
        self.assertEqual(port.ports[4].getHost().port, 4000)
        self.assertNotIn(port.ports[6].getHost().port, (0, 4000))
        self.assertRaises(CannotListenError, self.make, 4000)

    def test_wanted_later(self) -> None:
        """The second socket is there when it is of use, and accepts then as well."""
        self.wanted = False
        port = self.make(4000)
        self.assertEqual(list(port.ports), [4])
        accepted: list[IProtocol] = []
        port.udt.listen(_Keeping(accepted))
        self.wanted = True
        port.look()
        port.look()
        self.assertEqual(sorted(port.ports), [4, 6])
        far = self.make(far=True)
        for host in (V4, V6):
            connecting = far.udt.connect_early(
                Address(host, 4000), Factory.forProtocol(_Talker)
            )
            self.successResultOf(connecting)
        self.world.run_until(lambda: len(accepted) == 2, 5.0)
        self.assertTrue(far.udt.has_connections_to(Address(V6, 4000)))

    def test_one_interface(self) -> None:
        """Whoever names an address gets one socket, of its family."""
        for host, family in ((V4, 4), (V6, 6)):
            port = self.make(interface=host)
            self.assertEqual(list(port.ports), [family])
            self.assertEqual(port.getHost().host, host)

    def test_datagrams(self) -> None:
        """What is sent leaves by the socket of its family, STUN comes in by both."""
        near, far = self.make(4000), self.make(4001, far=True)
        heard: list[Address] = []
        far.onSTUN = lambda data, address: heard.append(address)
        message = binding_request(bytes(12)).encode()
        near.sendDatagram(message, Address(FAR_V4, 4001))
        near.sendDatagram(message, Address(FAR_V6, 4001))
        self.world.run_until_idle()
        self.assertEqual(heard, [Address(V4, 4000), Address(V6, 4000)])

    def test_rendezvous(self) -> None:
        """Ends meet over IPv6; without a socket for that it fails at once."""
        near, far = self.make(4000), self.make(4001, far=True)
        met: list[Deferred[IProtocol]] = [
            port.udt.rendezvous(address, Factory.forProtocol(Protocol), 5.0)
            for port, address in (
                (near, Address(FAR_V6, 4001)),
                (far, Address(V6, 4000)),
            )
        ]
        for each in met:
            self.world.run_until(each, 5.0)
        self.assertTrue(near.udt.has_connections_to(Address(FAR_V6, 4001)))
        lone = self.make(interface=V4)
        meeting = lone.udt.rendezvous(Address(FAR_V6, 1), Factory(), 5.0)
        self.failureResultOf(meeting, NoRouteError)

    def test_stop(self) -> None:
        """All sockets are closed, and what is sent then is lost."""
        port = self.make(4000)
        self.world.run_until(port.stop(), 5.0)
        port.sendDatagram(b"late", Address(FAR_V4, 4001))
        self.make(4000)


class _Talker(Protocol):
    """Says something at once."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")


class _Keeping(Factory):
    """Keeps the protocols that it makes."""

    noisy = False

    def __init__(self, made: list[IProtocol]) -> None:
        self._made = made

    def buildProtocol(self, addr: object) -> Protocol:
        """Make one."""
        protocol = Protocol()
        self._made.append(protocol)
        return protocol
