"""Ways to a mediator where firewalls and proxies are between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import MediatorUnreachable
from dwcloud.net.tls import ServerTLS
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.mediator_link import LinkState
from dwcloud.peer.mediator_ways import MediatorWays
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.testing import Firewall, Host
from dwcloud.testing.proxy import BadProxy, Defects
from tests.certificates import tls_endpoint
from tests.unit.mediator.world import (
    IDENTITIES,
    MEDIATOR,
    PORT,
    MediatedWorld,
    SimulatedClient,
    SimulatedServer,
)
from tests.unit.net.forwarding import Forwarding

TCP = f"TCP {MEDIATOR}:{PORT}"
HTTPS = f"https://{MEDIATOR}"
HTTP = f"http://{MEDIATOR}"
PROXY = "203.0.113.8"


class Silent(Protocol):
    """Takes a connection and says nothing."""


class Greeting(Protocol):
    """Speaks first, and not STUN."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"220 mail.example ready\r\n")


class WaysTestCase(SynchronousTestCase):
    """A mediator at 3345, 80 and 443."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.world = MediatedWorld(
            listen=("tcp:3345", "tcp:80", tls_endpoint(directory, 443))
        )
        self.run = self.world.world.run_until

    def host(self, ports: tuple[int, ...] | None = None, **options: Any) -> Host:
        """A host whose own firewall lets only some TCP ports out."""
        host = self.world.internet.host("198.51.100.2", name="server")
        if ports is not None or options:
            host.firewall = Firewall(tcp_ports=ports, **options)
        return host

    def server(self, host: Host, **options: Any) -> SimulatedServer:
        server = SimulatedServer(host, **options)
        server.link.startService()
        return server

    def online(self, server: SimulatedServer, limit: float = 3.0) -> str:
        """Wait for the server; return the name of the way that it took."""
        count = len(server.online)
        self.run(lambda: len(server.online) > count, limit)
        way = server.link.status.way
        assert way is not None
        return way.name

    def ways(self, host: Host, mediator: str = f"{MEDIATOR}:{PORT}") -> MediatorWays:
        return MediatorWays(host.reactor, MediatorAddress.parse(mediator))

    def connect(self, ways: MediatorWays) -> Any:
        return ways.connect(Factory.forProtocol(Silent))


class DirectTests(WaysTestCase):
    """No proxy: what the firewall lets through decides."""

    def test_direct(self) -> None:
        """Nothing is in the way: plain TCP, and no other connection."""
        server = self.server(self.host())
        self.assertEqual(self.online(server), TCP)
        status = server.link.status
        assert status.way is not None
        self.assertEqual(status.way.failures, {})
        self.assertTrue(status.way.direct)
        self.assertEqual(self.world.tcp_connections_from(server), 1)

    def test_only_web_ports(self) -> None:
        """Port 3345 swallows everything: 443 carries the channel, and says why."""
        server = self.server(self.host((80, 443)))
        self.assertEqual(self.online(server), f"{HTTPS} by upgrade")
        way = server.link.status.way
        assert way is not None
        self.assertEqual(way.failures, {TCP: "no answer so far"})
        self.assertIn(f"{HTTPS} by upgrade ({TCP}: no answer so far)", str(way))

    def test_only_http(self) -> None:
        """Where TLS does not get through either, port 80 does."""
        server = self.server(self.host((80,), rejects=True))
        self.assertEqual(self.online(server), f"{HTTP} by upgrade")
        way = server.link.status.way
        assert way is not None
        self.assertEqual(set(way.failures), {TCP, HTTPS})

    def test_swallowed(self) -> None:
        """A box that accepts connections and passes nothing does not count."""
        host = self.host()
        portal = self.world.internet.host("198.51.100.7", name="portal")
        portal.reactor.listenTCP(3345, Factory.forProtocol(Silent))
        portal.reactor.listenTCP(80, Forwarding(portal, (MEDIATOR, 80)))
        ways = self.ways(host, f"{portal.address}:3345")
        self.run(self.connect(ways), 5.0)
        assert ways.selected is not None
        self.assertEqual(ways.selected.name, f"http://{portal.address} by upgrade")

    def test_something_else(self) -> None:
        """Another service at the port is told from a mediator, and named."""
        host = self.host()
        other = self.world.internet.host("198.51.100.7", name="other")
        other.reactor.listenTCP(3345, Factory.forProtocol(Greeting))
        asking = self.connect(self.ways(host, f"{other.address}:3345"))
        error = self.assertRaises(MediatorUnreachable, self.run, asking, 5.0)
        self.assertIn("is no mediator", str(error))

    def test_nothing_gets_out(self) -> None:
        """The error names each way, after 20 seconds for each."""
        ways = self.ways(self.host(()))
        error = self.assertRaises(
            MediatorUnreachable, self.run, self.connect(ways), 30.0
        )
        for name in (TCP, HTTPS, HTTP):
            self.assertIn(name, str(error))
        self.assertIn("no answer within 20 seconds", str(error))

    def test_client(self) -> None:
        """A client without UDP asks inside HTTP, and punching is not its affair."""
        server = self.world.online_server("198.51.100.4")
        host = self.host((80, 443), block_udp=True)
        client = SimulatedClient(host)
        response = self.run(client.connect(server.identity.name), 8.0)
        self.assertEqual(response.server, server.identity.name)
        selected = client.mediator.ways.selected
        assert selected is not None
        self.assertEqual(selected.name, f"{HTTPS} by upgrade")


class URLTests(WaysTestCase):
    """A mediator named by a URL: no other way is tried."""

    def test_http(self) -> None:
        """The URL's port takes HTTP, UDP goes to the usual port."""
        server = self.server(
            self.host(), mediator=MediatorAddress.parse(f"{HTTP}:{PORT}")
        )
        self.assertEqual(self.online(server), f"{HTTP}:{PORT} by upgrade")
        client = self.world.client()
        self.run(client.connect(server.identity.name), 2.0)
        [request] = server.requests
        self.assertEqual(request.udp_endpoints, (client.address,))

    def test_unverifiable(self) -> None:
        """Who says https wants the certificate verified; TLS on the side is not."""
        server = self.server(self.host(), mediator=MediatorAddress.parse(HTTPS))
        self.run(lambda: server.offline, 5.0)
        self.assertIn("certificate", server.offline[0])
        self.assertEqual(server.online, [])


class MemoryTests(WaysTestCase):
    """What is tried first the next time."""

    def test_remembered(self) -> None:
        """The way that worked is the first, and alone if it still works."""
        host = self.host((80, 443))
        ways = self.ways(host)
        self.run(self.connect(ways), 5.0)
        before = self.world.world.seconds()
        self.run(self.connect(ways), 5.0)
        self.assertLess(self.world.world.seconds() - before, 0.5)
        assert ways.selected is not None
        self.assertEqual(ways.selected.failures, {TCP: "no answer so far"})

    def test_improved(self) -> None:
        """Within 10 minutes a server goes over to a cheaper way that has opened."""
        host = self.host((80,), rejects=True)
        server = self.server(host)
        self.assertEqual(self.online(server), f"{HTTP} by upgrade")
        self.world.world.advance(1900.0)
        self.assertEqual(server.offline, [])
        host.firewall = None
        self.assertEqual(self.online(server, 610.0), TCP)
        self.assertEqual(len(server.offline), 1)
        self.assertIn("a better way to it is open", server.offline[0])
        self.world.world.advance(1900.0)
        self.assertEqual(len(server.offline), 1)
        self.run(server.link.stopService(), 5.0)
        self.assertEqual(list(server.reactor.getDelayedCalls()), [])

    def test_stopped_while_looking(self) -> None:
        """A look for a cheaper way ends with the link."""
        server = self.server(self.host((80,), rejects=True))
        self.online(server)
        self.world.world.advance(600.5)
        self.run(server.link.stopService(), 5.0)
        self.world.world.advance(1.0)
        self.assertEqual(list(server.reactor.getDelayedCalls()), [])

    def test_forgotten(self) -> None:
        """After an hour, or in another network, the cheapest comes first again."""
        host = self.host((80, 443))
        ways = self.ways(host)
        for again in (lambda: self.world.world.advance(3601.0), ways.forget):
            self.run(self.connect(ways), 5.0)
            self.assertIn(HTTPS, str(ways.selected))
            host.firewall = None
            again()
            self.run(self.connect(ways), 5.0)
            assert ways.selected is not None
            self.assertEqual(ways.selected.name, TCP)
            ways.forget()
            host.firewall = Firewall(tcp_ports=(80, 443))

    def test_fails_later(self) -> None:
        """A remembered way that works no longer gives way to the others."""
        host = self.host((443,))
        ways = self.ways(host)
        self.run(self.connect(ways), 5.0)
        host.firewall = Firewall(tcp_ports=(80,))
        self.run(self.connect(ways), 5.0)
        assert ways.selected is not None
        self.assertEqual(ways.selected.name, f"{HTTP} by upgrade")

    def test_demoted(self) -> None:
        """A way on which the mediator fell silent is tried last."""
        server = self.server(self.host((80, 443)))
        self.assertEqual(self.online(server), f"{HTTPS} by upgrade")
        self.world.host.link.cut()
        self.run(lambda: server.offline, 60.0)
        self.assertIn("the mediator fell silent", server.offline[0])
        self.world.host.link.restore()
        self.assertEqual(self.online(server, 120.0), f"{HTTP} by upgrade")


class ProxyTests(WaysTestCase):
    """An office with a proxy as its only way out."""

    def start(self, **defects: Any) -> SimulatedServer:
        proxy_host = self.world.internet.host(PROXY, name="proxy")
        self.proxy = BadProxy(proxy_host.reactor, Defects(**defects))
        proxy_host.reactor.listenTCP(3128, self.proxy)
        host = self.host(hosts=[PROXY], rejects=True)
        return self.server(host, proxies=ProxySettings.of(Proxy(PROXY, 3128)))

    def test_connect_anywhere(self) -> None:
        """CONNECT to 3345 is the cheapest."""
        self.assertEqual(self.online(self.start()), f"{TCP} through proxy {PROXY}:3128")

    def test_connect_to_443(self) -> None:
        """CONNECT to 443 with TLS inside, as many proxies demand."""
        server = self.start(connect_ports=(443,), connect_tls_only=True)
        way = self.online(server)
        self.assertEqual(way, f"{HTTPS} through proxy {PROXY}:3128 by upgrade")
        assert server.link.status.way is not None
        (reason,) = server.link.status.way.failures.values()
        self.assertIn("many proxies allow port 443 alone", reason)

    def test_no_connect(self) -> None:
        """Without CONNECT, requests for port 3345 are passed on."""
        server = self.start(connect_ports=(), strips_upgrade=True)
        way = self.online(server, 10.0)
        through = f"{HTTP}:{PORT} through proxy {PROXY}:3128"
        self.assertEqual(way, f"{through} by post")
        self.assertEqual(self.world.snapshot["servers_online"], 1)
        self.world.world.advance(120.0)
        self.assertEqual(server.offline, [])

    def test_cut_again_and_again(self) -> None:
        """Where no stream lives long, short requests keep the server online."""
        for defects in ({"connect_ports": ()}, {}):
            self.setUp()
            server = self.start(life_limit=20.0, **defects)
            self.world.world.advance(300.0)
            way = server.link.status.way
            assert way is not None
            self.assertIn("by finite_messages", way.name)
            lost = len(server.offline)
            self.assertGreaterEqual(lost, 2)
            self.world.world.advance(1800.0)
            self.assertEqual(len(server.offline), lost)

    def test_lost_after_long(self) -> None:
        """A stream that is lost after long, or only once, is opened anew as it was."""
        server = self.start(connect_ports=(443,))
        way = self.online(server)
        for pause in (400.0, 400.0, 50.0):
            self.world.world.advance(pause)
            self.proxy.cut_all()
            self.assertEqual(self.online(server, 10.0), way)

    def test_silence_inside_messages(self) -> None:
        """A dead mediator is noticed through short requests, too."""
        server = self.start(
            connect_ports=(), strips_upgrade=True, buffers_requests=True
        )
        self.online(server, 10.0)
        self.world.host.link.cut()
        self.run(lambda: server.offline, 60.0)
        self.assertIs(server.link.status.state, LinkState.WAITING)
        self.world.host.link.restore()
        self.online(server, 180.0)


class ForgeryTests(WaysTestCase):
    """Somebody on the way of a tunnel: he can cut it, and nothing else."""

    def middle(self, port: int) -> Forwarding:
        """A machine that the server takes for the mediator."""
        host = self.world.internet.host("198.51.100.66", name="middle")
        forwarding = Forwarding(host, (MEDIATOR, port))
        host.reactor.listenTCP(80, forwarding)
        return forwarding

    def test_tls_ends_on_the_way(self) -> None:
        """A front server that takes TLS off does not keep anybody from registering."""
        front = self.world.internet.host("198.51.100.66", name="front")
        tls = TLSMemoryBIOFactory(
            ServerTLS(IDENTITIES[1]),
            False,
            Forwarding(front, (MEDIATOR, 80)),
            front.reactor,
        )
        front.reactor.listenTCP(443, tls)
        server = self.server(
            self.host((443,), rejects=True), mediator=MediatorAddress(front.address)
        )
        self.assertEqual(self.online(server), f"https://{front.address} by upgrade")

    def test_altered(self) -> None:
        """What is altered on the way ends the channel; nothing of it is believed."""
        forwarding = self.middle(80)
        url = MediatorAddress.parse("http://198.51.100.66")
        server = self.server(self.host(), mediator=url)
        self.online(server)
        self.world.world.advance(1.0)
        forwarding.tamper = lambda data: data[:-1] + bytes([data[-1] ^ 1])
        server.link.set_endpoints([Address("192.0.2.1", 1)], [])
        self.run(lambda: server.offline, 60.0)
        record = self.world.service.mediator.registry.find(server.identity.name)
        self.assertIsNone(record)

    def test_replayed(self) -> None:
        """A recorded registration is of no use in another tunnel."""
        forwarding = self.middle(80)
        recorded: list[bytes] = []

        def record(data: bytes) -> bytes:
            recorded.append(data)
            return data

        forwarding.tamper = record
        url = MediatorAddress.parse("http://198.51.100.66")
        server = self.server(self.host(), mediator=url)
        self.online(server)
        self.world.world.advance(1.0)
        self.run(server.link.stopService(), 5.0)
        self.world.world.advance(1.0)
        before = self.world.snapshot
        self.assertEqual(before["servers_online"], 0)
        listening = before["registrations"]
        # The bytes of both sides are there; the mediator takes what is for it.
        endpoint = TCP4ClientEndpoint(forwarding.host.reactor, MEDIATOR, 80)
        replaying: Any = self.run(connectProtocol(endpoint, Protocol()), 5.0)
        for data in recorded:
            replaying.transport.write(data)
            self.world.world.advance(0.1)
        after = self.world.snapshot
        self.assertEqual(after["registrations"], listening)
        self.assertEqual(after["servers_online"], 0)
