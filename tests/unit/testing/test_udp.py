"""Tests of UDP between simulated hosts: ports, errors, multicast, broadcast."""

from twisted.internet.error import (
    CannotListenError,
    InvalidAddressError,
    MessageLengthError,
    MulticastJoinError,
)
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.testing import World

from .programs import Datagrams

A, B = "203.0.113.1", "203.0.113.2"
GROUP = "239.255.11.11"


class UDPTests(SynchronousTestCase):
    """Datagrams between two hosts."""

    def setUp(self):
        self.world = World(seed=1)
        self.internet = self.world.internet()
        self.a = self.internet.host(A, name="a")
        self.b = self.internet.host(B, name="b")

    def opened(self, host, port=0, **kwargs):
        program = Datagrams()
        host.reactor.listenUDP(port, program, **kwargs)
        return program

    def test_there_and_back(self):
        """A datagram arrives with the address that the answer goes to."""
        asking, answering = self.opened(self.a), self.opened(self.b, 53)
        asking.transport.write(b"question", (B, 53))
        self.world.run_until_idle()
        self.assertEqual(
            answering.received,
            [(b"question", (A, asking.transport.getHost().port))],
        )
        answering.transport.write(b"answer", answering.received[0][1])
        self.world.run_until_idle()
        self.assertEqual(asking.received, [(b"answer", (B, 53))])
        self.assertAlmostEqual(self.world.seconds(), 0.02)

    def test_host(self):
        """A port knows where it is bound."""
        program = self.opened(self.a, 5000, interface=A)
        host = program.transport.getHost()
        self.assertEqual((host.type, host.host, host.port), ("UDP", A, 5000))

    def test_port_in_use(self):
        """A port is taken once and can be taken again after it was closed."""
        program = self.opened(self.a, 5000)
        self.assertRaises(CannotListenError, self.opened, self.a, 5000)
        self.assertRaises(CannotListenError, self.opened, self.a, 1, interface=B)
        self.world.run_until(program.transport.stopListening())
        self.opened(self.a, 5000)

    def test_free_ports(self):
        """Ports that nobody chose are different."""
        ports = {self.opened(self.a).transport.getHost().port for _ in range(20)}
        self.assertEqual(len(ports), 20)

    def test_most_exact_port(self):
        """Of two ports the one bound to the address itself gets the datagram."""
        exact = self.opened(self.b, 5000, interface=B)
        self.internet.attach(self.b, "203.0.113.3")
        other = self.opened(self.b, 5000, interface="203.0.113.3")
        sender = self.opened(self.a)
        sender.transport.write(b"x", (B, 5000))
        sender.transport.write(b"y", ("203.0.113.3", 5000))
        self.world.run_until_idle()
        self.assertEqual([d for d, _ in exact.received], [b"x"])
        self.assertEqual([d for d, _ in other.received], [b"y"])

    def test_connected(self):
        """A connected port hears its partner only and learns of a closed port."""
        program = self.opened(self.a, 5000)
        stranger = self.opened(self.internet.host("203.0.113.3"))
        program.transport.connect(B, 53)
        stranger.transport.write(b"hello", (A, 5000))
        program.transport.write(b"question")
        self.world.run_until_idle()
        self.world.advance(0.1)
        self.assertEqual((program.received, program.refusals), ([], 1))
        self.opened(self.b, 53).transport.write(b"answer", (A, 5000))
        self.world.run_until_idle()
        self.assertEqual(program.received, [(b"answer", (B, 53))])
        self.assertEqual(program.transport.getHost().host, A)

    def test_nobody_there(self):
        """A datagram to a closed port or a missing host is recorded as such."""
        program = self.opened(self.a)
        program.transport.write(b"x", (B, 53))
        program.transport.write(b"x", ("198.51.100.1", 53))
        self.world.run_until_idle()
        self.assertEqual(
            self.world.trace.verdicts, {"port unreachable": 1, "no such host": 1}
        )

    def test_no_route(self):
        """Writing without a way out raises, as a real socket does."""
        alone = self.opened(self.world.lan("10.0.0.0/24").host("10.0.0.1"))
        with self.assertRaises(OSError):
            alone.transport.write(b"x", (B, 53))

    def test_bad_arguments(self):
        """What Twisted refuses is refused."""
        program = self.opened(self.a)
        write = program.transport.write
        self.assertRaises(InvalidAddressError, write, b"x", ("www.example", 53))
        self.assertRaises(InvalidAddressError, write, b"x", ("2001:db8::1", 53))
        self.assertRaises(MessageLengthError, write, b"x" * 65508, (B, 53))

    def test_packet_size(self):
        """A datagram larger than the reader wants is cut."""
        program = self.opened(self.b, 53, maxPacketSize=100)
        self.opened(self.a).transport.write(b"x" * 1000, (B, 53))
        self.world.run_until_idle()
        self.assertEqual(len(program.received[0][0]), 100)

    def test_receive_buffer(self):
        """Datagrams that nobody reads in time are dropped, memory is bounded."""
        program = self.opened(self.b, 53)
        program.transport.stopReading()
        sender = self.opened(self.a)
        for _ in range(1000):
            sender.transport.write(b"x" * 1000, (B, 53))
        self.world.run_until_idle()
        verdicts = self.world.trace.verdicts
        self.assertEqual(verdicts, {"delivered": 212, "receive buffer full": 788})
        program.transport.startReading()
        self.world.run_until_idle()
        self.assertEqual(len(program.received), 212)

    def test_loopback(self):
        """A host reaches itself, by the loopback and by its own address."""
        program = self.opened(self.a, 53)
        sender = self.opened(self.a)
        sender.transport.write(b"x", ("127.0.0.1", 53))
        sender.transport.write(b"y", (A, 53))
        self.world.run_until_idle()
        self.assertEqual([a for _, (a, _) in program.received], ["127.0.0.1", A])

    def test_ipv6(self):
        """IPv6 works alike."""
        a = self.opened(self.internet.host("2001:db8::1"), interface="::")
        b = self.opened(self.internet.host("2001:db8::2"), 53, interface="::")
        a.transport.write(b"x", ("2001:db8:0::2", 53))
        self.world.run_until_idle()
        self.assertEqual(b.received[0][1][0], "2001:db8::1")

    def test_failing_protocol(self):
        """A protocol that raises keeps its port; the error is logged."""
        program = self.opened(self.b, 53)
        program.datagramReceived = lambda data, address: 1 / 0
        sender = self.opened(self.a)
        sender.transport.write(b"x", (B, 53))
        sender.transport.write(b"x", (B, 53))
        self.world.run_until_idle()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_changed_address(self):
        """After an address change datagrams leave from, and come to, the new one."""
        program, other = self.opened(self.a, 5000), self.opened(self.b, 53)
        self.a.change_addresses(self.a.interfaces[0], ["203.0.113.77"])
        program.transport.write(b"x", (B, 53))
        other.transport.write(b"old", (A, 5000))
        other.transport.write(b"new", ("203.0.113.77", 5000))
        self.world.run_until_idle()
        self.assertEqual(other.received, [(b"x", ("203.0.113.77", 5000))])
        self.assertEqual([d for d, _ in program.received], [b"new"])


class MulticastTests(SynchronousTestCase):
    """Groups within a LAN."""

    def setUp(self):
        self.world = World(seed=1)
        self.internet = self.world.internet()
        self.home = self.internet.nat("198.51.100.1")
        self.hosts = [self.home.host(f"192.168.1.{n}") for n in (10, 11, 12)]

    def opened(self, host, port=5018, join=True, **kwargs):
        program = Datagrams()
        host.reactor.listenMulticast(port, program, **kwargs)
        if join:
            self.successResultOf(program.transport.joinGroup(GROUP))
        return program

    def test_members_hear(self):
        """Members in the LAN hear; others, and the Internet, do not."""
        members = [self.opened(host) for host in self.hosts[:2]]
        stranger = self.opened(self.hosts[2], join=False)
        outside = self.opened(self.internet.host("203.0.113.1"))
        members[0].transport.write(b"hello", (GROUP, 5018))
        self.world.run_until_idle()
        expected = [(b"hello", ("192.168.1.10", 5018))]
        self.assertEqual(members[1].received, expected)
        self.assertEqual(members[0].received, expected)
        self.assertEqual((stranger.received, outside.received), ([], []))

    def test_loopback_mode(self):
        """A sender that does not want to hear itself does not."""
        members = [self.opened(host) for host in self.hosts[:2]]
        self.assertTrue(members[0].transport.getLoopbackMode())
        members[0].transport.setLoopbackMode(False)
        self.assertFalse(members[0].transport.getLoopbackMode())
        members[0].transport.write(b"hello", (GROUP, 5018))
        self.world.run_until_idle()
        self.assertEqual((len(members[0].received), len(members[1].received)), (0, 1))

    def test_time_to_live(self):
        """A time to live of 0 keeps multicasts on the host."""
        members = [self.opened(host) for host in self.hosts[:2]]
        self.assertEqual(members[0].transport.getTTL(), 1)
        members[0].transport.setTTL(0)
        self.assertEqual(members[0].transport.getTTL(), 0)
        members[0].transport.write(b"hello", (GROUP, 5018))
        self.world.run_until_idle()
        self.assertEqual((len(members[0].received), len(members[1].received)), (1, 0))

    def test_leave(self):
        """Who left the group hears no more."""
        members = [self.opened(host) for host in self.hosts[:2]]
        self.successResultOf(members[1].transport.leaveGroup(GROUP))
        members[0].transport.write(b"hello", (GROUP, 5018))
        self.world.run_until_idle()
        self.assertEqual(members[1].received, [])

    def test_closed_port_leaves(self):
        """A closed port is no member."""
        program = self.opened(self.hosts[0])
        self.world.run_until(program.transport.stopListening())
        self.assertEqual(self.hosts[0].interfaces[0].groups, {})

    def test_several_ports(self):
        """Programs that share a port each get a copy."""
        programs = [self.opened(self.hosts[0], listenMultiple=True) for _ in range(2)]
        sender = self.opened(self.hosts[1], port=0, join=False)
        sender.transport.write(b"hello", (GROUP, 5018))
        self.world.run_until_idle()
        self.assertEqual([len(p.received) for p in programs], [1, 1])
        self.assertRaises(CannotListenError, self.opened, self.hosts[0])

    def test_interfaces(self):
        """A host in two LANs chooses where it sends and where it listens."""
        office = self.internet.nat("198.51.100.2", lan="10.0.0.0/24")
        office.attach(self.hosts[0], "10.0.0.10")
        there = self.opened(office.host("10.0.0.11"))
        here = self.opened(self.hosts[1])
        both = self.opened(self.hosts[0], join=False)
        self.successResultOf(both.transport.setOutgoingInterface("10.0.0.10"))
        self.assertEqual(both.transport.getOutgoingInterface(), "10.0.0.10")
        self.successResultOf(both.transport.joinGroup(GROUP, "10.0.0.10"))
        both.transport.setLoopbackMode(False)
        both.transport.write(b"hello", (GROUP, 5018))
        here.transport.write(b"not heard", (GROUP, 5018))
        there.transport.write(b"heard", (GROUP, 5018))
        self.world.run_until_idle()
        self.assertIn((b"hello", ("10.0.0.10", 5018)), there.received)
        self.assertEqual([d for d, _ in both.received], [b"heard"])
        self.failureResultOf(both.transport.setOutgoingInterface("10.9.9.9"), OSError)

    def test_bad_groups(self):
        """Groups that are none, joined twice or never joined are refused."""
        program = self.opened(self.hosts[0])
        join, leave = program.transport.joinGroup, program.transport.leaveGroup
        self.failureResultOf(join("192.0.2.1"), MulticastJoinError)
        self.failureResultOf(join(GROUP), MulticastJoinError)
        self.failureResultOf(join(GROUP, "192.0.2.1"), MulticastJoinError)
        self.failureResultOf(leave("239.1.2.3"), MulticastJoinError)

    def test_ipv6(self):
        """IPv6 groups work alike; interfaces are numbered."""
        lan = self.world.lan("2001:db8::/64")
        hosts = [lan.host(f"2001:db8::{n}") for n in (1, 2)]
        programs = [self.opened(h, join=False, interface="::") for h in hosts]
        for program in programs:
            self.successResultOf(program.transport.joinGroup("ff02::1:5"))
        self.assertEqual(programs[0].transport.getOutgoingInterface(), 0)
        self.successResultOf(programs[0].transport.setOutgoingInterface(1))
        self.assertEqual(programs[0].transport.getOutgoingInterface(), 1)
        self.failureResultOf(programs[0].transport.setOutgoingInterface(9), OSError)
        programs[0].transport.write(b"hello", ("ff02::1:5", 5018))
        self.world.run_until_idle()
        self.assertEqual(programs[1].received, [(b"hello", ("2001:db8::1", 5018))])

    def test_broadcast(self):
        """Broadcasts need permission and reach the LAN."""
        programs = [Datagrams() for _ in self.hosts]
        for host, program in zip(self.hosts, programs, strict=True):
            host.reactor.listenUDP(5018, program)
        transport = programs[0].transport
        with self.assertRaises(OSError):
            transport.write(b"x", ("255.255.255.255", 5018))
        transport.setBroadcastAllowed(True)
        self.assertTrue(transport.getBroadcastAllowed())
        transport.write(b"limited", ("255.255.255.255", 5018))
        transport.write(b"directed", ("192.168.1.255", 5018))
        self.world.run_until_idle()
        self.assertEqual(
            [d for d, _ in programs[1].received], [b"limited", b"directed"]
        )
