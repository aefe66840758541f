"""Tests of routers, firewalls and the builders of networks."""

import socket

from twisted.internet import error
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.testing import (
    ADDRESS_RESTRICTED,
    FULL_CONE,
    LINUX_WITHOUT_FIREWALL,
    SYMMETRIC,
    Filtering,
    Firewall,
    Mapping,
    World,
)

from .programs import Datagrams, Server, connect

SERVER = "203.0.113.1"


class RouterCase(SynchronousTestCase):
    """A server in the Internet and whatever a test builds."""

    def setUp(self):
        self.world = World(seed=1)
        self.internet = self.world.internet()
        self.server = self.internet.host(SERVER, name="server")
        self.factory = Server()
        self.server.reactor.listenTCP(80, self.factory)
        self.echo = Datagrams()
        self.server.reactor.listenUDP(53, self.echo)

    def ask(self, host, port=0):
        """Send a datagram to the server, answer it, and return both programs' view."""
        program = Datagrams()
        host.reactor.listenUDP(port, program)
        program.transport.write(b"question", (SERVER, 53))
        self.world.run_until_idle()
        if self.echo.received:
            self.echo.transport.write(b"answer", self.echo.received[-1][1])
            self.world.run_until_idle()
        return program

    def connect(self, host, address=SERVER, port=80, **kwargs):
        return self.world.run_until(connect(host.reactor, address, port, **kwargs))


class TimeToLiveTests(RouterCase):
    """How far datagrams get."""

    def send(self, ttl):
        """Send a datagram that few routers pass on; return whether it arrives."""
        host = self.internet.nat("198.51.100.1").host("192.168.1.10")
        program = Datagrams()
        port = host.reactor.listenUDP(0, program)
        handle = port.getHandle()
        self.assertEqual(handle.getsockopt(socket.IPPROTO_IP, socket.IP_TTL), 64)
        handle.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        program.transport.write(b"question", (SERVER, 53))
        self.world.run_until_idle()
        return bool(self.echo.received)

    def test_own_router(self):
        """The router at home drops it."""
        self.assertFalse(self.send(1))
        self.assertEqual(self.world.trace.verdicts, {"time to live exceeded": 1})

    def test_provider(self):
        """One of the Internet drops it, after it opened the router at home."""
        self.assertFalse(self.send(2))
        [record] = self.world.trace
        self.assertEqual(
            (record.place, record.source.host), ("internet", "198.51.100.1")
        )

    def test_far_end(self):
        """It gets there."""
        self.assertTrue(self.send(4))


class NATRouterTests(RouterCase):
    """Hosts behind a NAT."""

    def test_udp(self):
        """The server sees the router's address, the host gets the answer."""
        home = self.internet.nat("198.51.100.1")
        program = self.ask(home.host("192.168.1.10"), 5000)
        self.assertEqual(self.echo.received, [(b"question", ("198.51.100.1", 5000))])
        self.assertEqual(program.received, [(b"answer", (SERVER, 53))])

    def test_slow_inner_port(self):
        """A router's inner port takes no time, unless its link is told to."""
        home = self.internet.nat("198.51.100.1")
        host = home.host("192.168.1.10")
        self.ask(host, 5000)
        at_once = self.world.seconds()
        home.router.inside.link.configure(latency=0.5)
        program = self.ask(host, 5001)
        self.assertEqual(program.received, [(b"answer", (SERVER, 53))])
        self.assertAlmostEqual(self.world.seconds() - at_once, at_once + 1.0)
        home.router.inside.link.cut()
        self.assertEqual(self.ask(host, 5002).received, [])

    def test_tcp(self):
        """Connections go out; both ends see what they should."""
        home = self.internet.nat("198.51.100.1", SYMMETRIC)
        client = self.connect(home.host("192.168.1.10"))
        self.world.run_until_idle()
        server = self.factory.protocols[0]
        self.assertEqual(client.transport.getHost().host, "192.168.1.10")
        self.assertEqual(server.transport.getPeer().host, "198.51.100.1")
        server.transport.write(b"hello")
        self.world.run_until(lambda: client.received == b"hello")
        client.transport.loseConnection()
        self.world.run_until(lambda: server.reason)

    def test_tcp_inbound(self):
        """Nobody connects to a host behind a NAT without a forward."""
        home = self.internet.nat("198.51.100.1", FULL_CONE)
        home.host("192.168.1.10").reactor.listenTCP(80, Server())
        with self.assertRaises(error.TimeoutError):
            self.connect(self.server, "198.51.100.1", timeout=5)
        home = self.internet.nat("198.51.100.2", LINUX_WITHOUT_FIREWALL)
        with self.assertRaises(error.ConnectionRefusedError):
            self.connect(self.server, "198.51.100.2", timeout=5)

    def test_forward(self):
        """A forwarded port reaches the host; the end of the forward ends that."""
        home = self.internet.nat("198.51.100.1")
        home.host("192.168.1.10").reactor.listenTCP(8080, Server())
        home.router.forward_port("tcp", 80, "192.168.1.10", 8080)
        client = self.connect(self.server, "198.51.100.1")
        self.assertEqual(client.transport.getPeer().host, "198.51.100.1")
        home.router.remove_forward("tcp", 80)
        with self.assertRaises(error.TimeoutError):
            self.connect(self.server, "198.51.100.1", timeout=5)

    def test_overlapping_networks(self):
        """Two homes may use the same private addresses."""
        hosts = [
            self.internet.nat(f"198.51.100.{n}").host("192.168.1.10") for n in (1, 2)
        ]
        for host in hosts:
            self.ask(host)
        sources = [address for _, (address, _) in self.echo.received]
        self.assertEqual(sources, ["198.51.100.1", "198.51.100.2"])
        self.assertNotEqual(hosts[0].name, hosts[1].name)

    def test_hairpin(self):
        """Inner hosts reach each other by the outer address if the NAT turns round."""
        for hairpinning, expected in ((True, 1), (False, 0)):
            home = self.internet.nat(
                f"198.51.100.{1 + hairpinning}", FULL_CONE, hairpinning=hairpinning
            )
            inner = self.ask(home.host("192.168.1.10"), 5000)
            other = Datagrams()
            home.host("192.168.1.11").reactor.listenUDP(6000, other)
            other.transport.write(b"turn", (home.router.external_address, 5000))
            self.world.run_until_idle()
            expected_source = (home.router.external_address, 6000)
            turned = [r for r in inner.received if r[0] == b"turn"]
            self.assertEqual(turned, [(b"turn", expected_source)] * expected)

    def test_reboot(self):
        """A rebooted NAT with a new address lets nothing old in, new things out."""
        home = self.internet.nat("198.51.100.1")
        host = home.host("192.168.1.10")
        client = self.connect(host)
        program = self.ask(host, 5000)
        home.router.reboot("198.51.100.77")
        self.echo.transport.write(b"old", ("198.51.100.1", 5000))
        self.world.run_until_idle()
        self.assertEqual(len(program.received), 1)
        program.transport.write(b"new", (SERVER, 53))
        client.transport.write(b"who am I?")
        self.world.run_until(lambda: client.reason)
        self.assertEqual(self.echo.received[-1], (b"new", ("198.51.100.77", 5000)))
        self.assertTrue(client.reason.check(error.ConnectionLost))

    def test_two_nats(self):
        """Behind a carrier's NAT the outermost address is seen."""
        carrier = self.internet.nat("198.51.100.1", lan="100.64.0.0/10")
        home = carrier.nat("100.64.0.2")
        self.ask(home.host("192.168.1.10"))
        self.assertEqual(self.echo.received[0][1][0], "198.51.100.1")

    def test_behaviour(self):
        """Single properties of a behaviour can be changed when building."""
        home = self.internet.nat(
            "198.51.100.1",
            ADDRESS_RESTRICTED,
            mapping=Mapping.ADDRESS_DEPENDENT,
            mapping_timeout=20.0,
        )
        behaviour = home.router.nat.behaviour
        self.assertEqual(behaviour.mapping, Mapping.ADDRESS_DEPENDENT)
        self.assertEqual(behaviour.filtering, Filtering.ADDRESS_DEPENDENT)
        self.assertEqual(behaviour.mapping_timeout, 20.0)

    def test_ipv6_is_routed(self):
        """IPv6 behind a NAT keeps its addresses."""
        home = self.internet.nat(
            "198.51.100.1", lan=["192.168.1.0/24", "2001:db8:1::/64"]
        )
        inner = Datagrams()
        host = home.host("192.168.1.10", "2001:db8:1::10")
        host.reactor.listenUDP(5, inner, interface="::")
        outer = Datagrams()
        self.internet.host("2001:db8::1").reactor.listenUDP(5, outer, interface="::")
        outer.transport.write(b"in", ("2001:db8:1::10", 5))
        self.world.run_until_idle()
        inner.transport.write(b"out", inner.received[0][1])
        self.world.run_until_idle()
        self.assertEqual(outer.received, [(b"out", ("2001:db8:1::10", 5))])

    def test_the_router_itself(self):
        """The router's own address offers nothing."""
        home = self.internet.nat("198.51.100.1")
        with self.assertRaises(error.TimeoutError):
            self.connect(home.host("192.168.1.10"), "192.168.1.1", timeout=5)

    def test_address_is_taken(self):
        """Addresses are unique and belong to their network."""
        home = self.internet.nat("198.51.100.1")
        self.assertRaises(ValueError, self.internet.host, "198.51.100.1")
        self.assertRaises(ValueError, home.host, "10.0.0.1")
        self.assertRaises(ValueError, home.host)
        self.assertRaises(ValueError, home.host, "192.168.1.1")

    def test_no_router(self):
        """A network at the end of nothing has no router to ask for."""
        self.assertRaises(ValueError, lambda: self.internet.router)


class FirewallTests(RouterCase):
    """Hosts behind rules."""

    def office(self, **rules):
        realm = self.internet.firewall("198.51.100.0/24", Firewall(**rules))
        return realm.host("198.51.100.10")

    def test_replies_only(self):
        """Inner hosts keep their addresses; only answers come in."""
        host = self.office()
        program = self.ask(host, 5000)
        self.assertEqual(self.echo.received[0][1], ("198.51.100.10", 5000))
        self.assertEqual(program.received, [(b"answer", (SERVER, 53))])
        stranger = Datagrams()
        self.server.reactor.listenUDP(54, stranger)
        stranger.transport.write(b"x", ("198.51.100.10", 5000))
        self.world.run_until_idle()
        self.assertEqual(len(program.received), 1)
        host.reactor.listenTCP(80, Server())
        with self.assertRaises(error.TimeoutError):
            self.connect(self.server, "198.51.100.10", timeout=5)

    def test_replies_stop(self):
        """An answer that comes too late stays out."""
        program = self.ask(self.office(udp_timeout=30.0), 5000)
        self.world.advance(31.0)
        self.echo.transport.write(b"late", ("198.51.100.10", 5000))
        self.world.run_until_idle()
        self.assertEqual(len(program.received), 1)

    def test_filtering(self):
        """A firewall may admit by address, or anything."""
        for filtering, expected in (
            (Filtering.ADDRESS_DEPENDENT, [b"same host"]),
            (Filtering.ENDPOINT_INDEPENDENT, [b"same host", b"other host"]),
        ):
            self.setUp()
            program = self.ask(self.office(filtering=filtering), 5000)
            for host, text in (
                (self.server, b"same host"),
                (self.internet.host("203.0.113.2"), b"other host"),
            ):
                sender = Datagrams()
                host.reactor.listenUDP(99, sender)
                sender.transport.write(text, ("198.51.100.10", 5000))
            self.world.run_until_idle()
            heard = [data for data, _ in program.received[1:]]
            self.assertEqual(heard, expected)

    def test_blocked_udp(self):
        """UDP stays inside, TCP goes out."""
        host = self.office(block_udp=True)
        self.ask(host)
        self.assertEqual(self.echo.received, [])
        self.assertEqual(self.world.trace.verdicts, {"firewall blocks UDP": 1})
        self.connect(host)

    def test_tcp_ports(self):
        """Only some remote ports can be connected to."""
        self.server.reactor.listenTCP(3345, Server())
        host = self.office(tcp_ports=[80, 443])
        self.connect(host)
        with self.assertRaises(error.TimeoutError):
            self.connect(host, port=3345, timeout=5)

    def test_rejects(self):
        """A firewall may say at once that it blocks."""
        host = self.office(tcp_ports=[443], rejects=True)
        with self.assertRaises(error.ConnectionRefusedError):
            self.connect(host)
        self.assertLess(self.world.seconds(), 0.1)

    def test_hosts(self):
        """Only some remote hosts, a proxy say, can be reached."""
        self.internet.host("203.0.113.2").reactor.listenTCP(80, Server())
        host = self.office(hosts=[SERVER])
        self.connect(host)
        with self.assertRaises(error.TimeoutError):
            self.connect(host, "203.0.113.2", timeout=5)

    def test_open_ports(self):
        """An open port lets anybody in, and its answers out whatever the rules."""
        host = self.office(tcp_ports=[443], open_ports=[("tcp", 80)])
        inner = Server()
        host.reactor.listenTCP(80, inner)
        client = self.connect(self.server, "198.51.100.10")
        client.transport.write(b"hello")
        self.world.run_until_idle()
        self.assertEqual(inner.protocols[0].received, b"hello")

    def test_restart(self):
        """A firewall that lost its state lets no answer in until asked again."""
        host = self.office()
        program = self.ask(host, 5000)
        self.world.routers["firewall 198.51.100.0/24"].reboot()
        self.echo.transport.write(b"x", ("198.51.100.10", 5000))
        self.world.run_until_idle()
        self.assertEqual(len(program.received), 1)

    def test_host_firewall(self):
        """A single host can have rules as well."""
        self.server.firewall = Firewall(open_ports=[("tcp", 80)])
        outer = self.internet.host("203.0.113.9")
        self.connect(outer)
        self.ask(outer)
        self.assertEqual(self.echo.received, [])
        outer.firewall = Firewall(block_udp=True)
        self.ask(outer)
        self.assertIn("firewall blocks UDP", self.world.trace.verdicts)

    def test_no_port_forward(self):
        """A router without NAT forwards no ports."""
        realm = self.internet.firewall("198.51.100.0/24")
        self.assertRaises(ValueError, realm.router.forward_port, "tcp", 80, SERVER)
        realm.router.remove_forward("tcp", 80)


class NetworkTests(RouterCase):
    """Networks drop what they are told to, and hosts move between them."""

    def test_filter(self):
        """A filter drops chosen packets, as long as it is wanted."""
        home = self.internet.nat("198.51.100.1")
        network = self.internet.network
        remove = network.add_filter(
            lambda packet: packet.protocol == "udp" and packet.source.host == SERVER
        )
        program = self.ask(home.host("192.168.1.10"), 5000)
        self.assertEqual((len(self.echo.received), program.received), (1, []))
        remove()
        self.echo.transport.write(b"answer", self.echo.received[0][1])
        self.world.run_until_idle()
        self.assertEqual(len(program.received), 1)

    def test_interfaces(self):
        """A host in a LAN and in the Internet uses the near way."""
        lan = self.world.lan("10.0.0.0/24")
        lan.attach(self.server, "10.0.0.1")
        inner = lan.host("10.0.0.2")
        inner.reactor.listenTCP(80, Server())
        client = self.connect(self.server, "10.0.0.2")
        self.assertEqual(client.transport.getHost().host, "10.0.0.1")
        self.assertEqual(self.server.addresses, [SERVER, "10.0.0.1"])
        self.assertEqual(self.server.address, SERVER)

    def test_power_off_frees_the_address(self):
        """The address of a dead host can be given to another one."""
        self.server.power_off()
        self.internet.host(SERVER)
        self.assertEqual(self.server.addresses, [])

    def test_names(self):
        """Hosts and routers have different names."""
        names = [self.internet.host(f"203.0.113.{n}", name="x").name for n in (7, 8)]
        self.assertEqual(names, ["x", "x 2"])
        self.assertEqual(self.internet.nat("198.51.100.9", name="x").router.name, "x 3")

    def test_routed_address_is_withdrawn(self):
        """A routed address is free outside when its host is gone."""
        home = self.internet.nat(
            "198.51.100.1", lan=["192.168.1.0/24", "2001:db8:1::/64"]
        )
        host = home.host("192.168.1.10", "2001:db8:1::10")
        self.assertRaises(ValueError, self.internet.host, "2001:db8:1::10")
        host.power_off()
        self.internet.host("2001:db8:1::10")

    def test_changed_routed_address(self):
        """A new address behind a firewall is known outside, the old one no more."""
        office = self.internet.firewall("198.51.100.0/24")
        host = office.host("198.51.100.10")
        program = self.ask(host, 5000)
        host.change_addresses(host.interfaces[0], ["198.51.100.11"])
        program.transport.write(b"again", (SERVER, 53))
        self.world.run_until_idle()
        self.echo.transport.write(b"old", ("198.51.100.10", 5000))
        self.echo.transport.write(b"new", ("198.51.100.11", 5000))
        self.world.run_until_idle()
        self.assertEqual([d for d, _ in program.received], [b"answer", b"new"])
