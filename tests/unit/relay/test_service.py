"""The relay between servers and clients, on simulated hosts."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from dwcloud.errors import RelayRefused
from dwcloud.net.early_tls import EarlyTLSFactory
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tls import UnverifiedTLS
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.pairing import Limits
from dwcloud.protocol.tunnelling.methods import FINITE_MESSAGES
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.testing.proxy import BadProxy, Defects
from tests.unit.net.stream_world import Recorder, pattern
from tests.unit.relay.relay_world import UPGRADE, RelayTestCase


@implementer(IHalfCloseableProtocol)
class HalfCloser(Recorder):
    """Answers ``answer`` when the far end has finished, then ends."""

    def readConnectionLost(self) -> None:
        self.calls.append("end of input")
        self.transport.write(b"answer to %d bytes" % len(self.data))
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass


@implementer(IHalfCloseableProtocol)
class Waiter(Recorder):
    """Stays open when the far end has finished."""

    def readConnectionLost(self) -> None:
        self.calls.append("end of input")

    def writeConnectionLost(self) -> None:
        pass


class _Ahead(EarlyTLSFactory):
    """Says something in the clear that may go ahead, as TLS does."""

    def first_flight(self) -> bytes:
        return b"first words"

    def buildProtocol(self, addr: Any) -> Any:
        assert self.flight_sent, "not sent ahead"
        return self.wrappedFactory.buildProtocol(addr)


class RelayingTests(RelayTestCase):
    def test_echo(self) -> None:
        """Bytes go through both ways, and the figures count them."""
        self.full_pool()
        client = self.connect()
        data = pattern(300_000)
        client.transport.write(data)
        self.world.run_until(lambda: len(client.data) == len(data))
        self.assertEqual(bytes(client.data), data)
        now = self.statistics()["now"]
        self.assertEqual(
            (now["tunnels"], now["bytes_to_server"], now["bytes_to_client"]),
            (1, 300_000, 300_000),
        )
        client.transport.loseConnection()
        self.world.run_until(lambda: client.lost is not None)
        self.world.advance(1.0)
        ended = self.statistics()["ended"]
        self.assertEqual(ended["tunnels"], 1)
        self.assertEqual(ended["bytes_to_server"], 300_000)
        self.assertEqual(ended["bytes_to_client"], 300_000)

    def test_server_speaks_first(self) -> None:
        """What the server says at once reaches the client whole."""

        class Greeter(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(b"hello" * 1000)  # type: ignore[union-attr]

        self.full_pool(Factory.forProtocol(Greeter))
        client = self.connect()
        self.world.run_until(lambda: len(client.data) == 5000)

    def test_hundred_and_one_at_once(self) -> None:
        """101 clients at once all get through, each to a stream of its own."""
        self.full_pool()
        clients = [Recorder() for _ in range(101)]
        connecting = [connectProtocol(self.client(), client) for client in clients]
        self.world.run_until(gatherResults(connecting), limit=10.0)
        for n, client in enumerate(clients):
            client.transport.write(b"%d" % n)
        self.world.run_until(lambda: all(client.data for client in clients))
        self.assertEqual(
            [bytes(client.data) for client in clients], [b"%d" % n for n in range(101)]
        )
        for client in clients:
            client.transport.loseConnection()

    def test_half_close(self) -> None:
        """The end of one direction passes through, the other goes on."""
        self.full_pool(Factory.forProtocol(HalfCloser))
        client = self.connect()
        client.transport.write(b"question")
        client.transport.loseWriteConnection()
        self.world.run_until(lambda: client.lost is not None)
        self.assertEqual(bytes(client.data), b"answer to 8 bytes")
        self.assertIsInstance(client.lost, ConnectionDone)

    def test_half_closed_and_silent(self) -> None:
        """A tunnel with one direction ended is given up after 10 min of silence."""
        server = Waiter()
        self.full_pool(Factory.forProtocol(lambda: server))
        client = self.connect()
        client.transport.loseWriteConnection()
        self.world.run_until(lambda: "end of input" in server.calls)
        self.world.advance(590.0)
        server.transport.write(b"not silent")
        self.world.advance(600.0)
        self.assertIsNone(client.lost)
        self.world.advance(30.0)
        self.world.run_until(lambda: client.lost is not None, limit=700.0)
        self.assertEqual(bytes(client.data), b"not silent")

    def test_reset(self) -> None:
        """A broken connection is broken on the other side, too."""
        server = Recorder()
        self.full_pool(Factory.forProtocol(lambda: server))
        client = self.connect()
        self.world.run_until(lambda: server.calls == ["made"])
        client.transport.abortConnection()
        self.world.run_until(lambda: server.lost is not None)
        self.assertIsInstance(server.lost, ConnectionLost)
        self.assertNotIsInstance(server.lost, ConnectionDone)

    def test_slow_reader(self) -> None:
        """Who does not read stops the sender; nothing piles up in the relay."""
        server = Recorder()
        self.full_pool(Factory.forProtocol(lambda: server))
        client = self.connect()
        self.world.run_until(lambda: server.calls == ["made"])
        server.transport.pauseProducing()
        sent = 0

        class Producer:
            def resumeProducing(self) -> None:
                nonlocal sent
                if sent < 20_000_000:
                    sent += 100_000
                    client.transport.write(bytes(100_000))

            def stopProducing(self) -> None:
                pass

        client.transport.registerProducer(Producer(), False)
        self.world.advance(30.0)
        self.assertLess(sent, 10_000_000)
        stopped = sent
        self.world.advance(30.0)
        self.assertEqual(sent, stopped)
        server.transport.resumeProducing()
        self.world.run_until(lambda: sent > stopped)
        client.transport.unregisterProducer()
        client.transport.abortConnection()

    def test_reader_gone_for_good(self) -> None:
        """What is left to read when one side has gone is kept for 2 min at most."""
        server = Recorder()
        self.full_pool(Factory.forProtocol(lambda: server))
        client = self.connect()
        self.world.run_until(lambda: server.calls == ["made"])
        client.transport.pauseProducing()
        server.transport.write(bytes(3_000_000))
        server.transport.loseConnection()
        self.world.advance(400.0)
        client.transport.resumeProducing()
        self.world.run_until(lambda: client.lost is not None)

    def test_client_name_and_address(self) -> None:
        """The server learns from where a client came."""
        addresses: list[Any] = []

        class Recording(Factory):
            protocol = Recorder

            def buildProtocol(self, addr: Any) -> Any:
                addresses.append(addr)
                return super().buildProtocol(addr)

        self.full_pool(Recording())
        self.connect().transport.loseConnection()
        self.world.run_until(lambda: bool(addresses))
        self.assertEqual(addresses[0].host, "203.0.113.20")

    def test_any_server_of_a_system(self) -> None:
        """The name of a system alone reaches its server."""
        self.full_pool()
        client = self.connect(PeerName(self.name.system))
        client.transport.write(b"x")
        self.world.run_until(lambda: client.data == b"x")

    def test_one_flight(self) -> None:
        """What the client says first is answered one round trip after TCP is there."""
        self.full_pool()
        took = []
        for _ in range(2):
            # A new connection is joined when its server has said that it is there.
            self.world.advance(1.0)
            recorder = Recorder()
            factory = _Ahead(
                UnverifiedTLS("relay"),
                Factory.forProtocol(lambda made=recorder: made),
                self.client_host.reactor,
            )
            began = self.world.seconds()
            self.world.run_until(self.client().connect(factory))
            self.world.run_until(lambda made=recorder: bool(made.data))
            took.append(self.world.seconds() - began)
            self.assertEqual(bytes(recorder.data), b"first words")
            recorder.transport.abortConnection()
        # TCP, and from the client by way of the relay to the server and back.
        round_trip = 2 * self.internet_latency()
        self.assertLess(max(took), 3.2 * round_trip)

    def internet_latency(self) -> float:
        """Seconds from one host to another."""
        began = self.world.seconds()
        connection = self.http()
        took: float = self.world.seconds() - began
        connection.abort()
        return took / 2

    def test_no_connection_in_time(self) -> None:
        """A server that cannot open connections makes its clients wait 5 s."""
        self.full_pool()
        self.server_host.power_off()
        clients = [Recorder() for _ in range(8)]
        results: list[Any] = []
        began = self.world.seconds()
        for client in clients:
            connectProtocol(self.client(), client).addErrback(results.append)
        self.world.run_until(lambda: bool(results))
        self.assertEqual(results[0].value.status, 503)
        self.assertTrue(5.0 <= self.world.seconds() - began < 5.5)
        self.pools.clear()

    def test_unknown_server(self) -> None:
        """A server that is not there is refused at once, with 404."""
        error = self.assertRaises(RelayRefused, self.connect)
        self.assertEqual(error.status, 404)

    def test_relay_stops(self) -> None:
        """A relay that stops breaks its connections; the server notices at once."""
        pool = self.full_pool()
        client = self.connect()
        self.world.run_until(self.relay.stopService())
        self.world.run_until(lambda: client.lost is not None)
        self.world.run_until(lambda: pool.idle_connections == 0)
        self.world.run_until(lambda: "failed" in dict(self.statuses))
        self.start_relay()
        self.world.run_until(lambda: pool.idle_connections == 7)
        self.assertEqual(
            [status for status, _ in self.statuses],
            ["listening", "failed", "listening"],
        )


class LimitTests(RelayTestCase):
    service_options = {"limits": Limits(idle_per_server=3)}

    def test_refused_connections(self) -> None:
        """A relay that takes fewer connections than wanted is not stormed."""
        pool = self.pool()
        self.world.advance(120.0)
        self.assertEqual(pool.idle_connections, 3)
        self.assertLess(self.statistics()["ended"]["refused"]["403"], 30)
        self.assertEqual(self.statuses, [("listening", "")])


class TunnelLimitTests(RelayTestCase):
    """A relay that takes two tunnels."""

    service_options = {"limits": Limits(tunnels=2)}

    def test_full(self) -> None:
        """One more tunnel gets 503, until one has ended; the statistics show it."""
        self.full_pool()
        first, _ = self.connect(), self.connect()
        error = self.assertRaises(RelayRefused, self.connect)
        self.assertEqual(error.status, 503)
        self.assertIn("no more tunnels", str(error))
        figures = self.statistics()
        self.assertEqual(figures["now"]["tunnels"], figures["now"]["tunnels_limit"])
        self.assertEqual(figures["ended"]["refused"], {"401": 1, "503": 1})
        first.transport.loseConnection()
        self.world.advance(1.0)
        self.connect()


class ConnectionLimitTests(RelayTestCase):
    service_options = {"max_connections": 8}

    def test_flood(self) -> None:
        """Strangers push each other out, not the server, its clients or newcomers."""
        pool = self.full_pool()
        client = self.connect()
        self.world.run_until(lambda: self.relay.pairing.idle_connections >= 7)
        strangers = [self.http() for _ in range(12)]
        self.world.advance(0.5)
        self.assertEqual([s.reusable for s in strangers], [False] * 4 + [True] * 8)
        client.transport.write(b"still there")
        self.world.run_until(lambda: client.data == b"still there")
        self.assertGreaterEqual(pool.idle_connections, 7)
        self.assertEqual(self.statuses, [("listening", "")])
        figures = self.statistics()
        self.assertEqual(figures["now"]["http_connections"], 8)
        self.assertEqual(figures["ended"]["http_connections_evicted"], 5)
        self.world.advance(20.0)
        self.assertEqual(self.statistics()["now"]["http_connections"], 1)


class DrainTests(RelayTestCase):
    """A relay that is told to stop and waits for its tunnels."""

    service_options = {"drain": 600.0}

    def test_waits_for_the_last_tunnel(self) -> None:
        """Running tunnels go on, nothing new begins; the last one ends it."""
        pool = self.full_pool()
        clients = [self.connect(), self.connect()]
        idler = self.http()
        stopped: list[object] = []
        stopping = self.relay.stopService().addCallback(stopped.append)
        self.world.advance(60.0)
        self.assertEqual(stopped, [])
        self.assertEqual(pool.idle_connections, 0)
        self.assertEqual(self.relay.ports, [])
        for client in clients:
            client.transport.write(b"still there?")
            self.world.run_until(lambda c=client: c.data == b"still there?")
        self.assertTrue(idler.transport)
        clients[0].transport.loseConnection()
        self.world.advance(60.0)
        self.assertEqual(stopped, [])
        clients[1].transport.loseConnection()
        self.world.run_until(stopping, limit=5.0)

    def test_takes_nothing_new(self) -> None:
        """Who asks on a connection that is open already gets 503, and the reason."""
        self.full_pool()
        client = self.connect()
        idler = self.http()
        path = f"/relay/server/{self.name}/client_sessions/"
        created = self.ask("POST", path, connection=idler)
        self.assertEqual(created.status, 201)
        stopping = self.relay.stopService()
        self.world.advance(1.0)
        refused = self.ask("POST", path, connection=idler)
        self.assertEqual(refused.status, 503)
        self.assertIn(b"about to stop", refused.body)
        tunnel = json.loads(created.body)["url"] + "/upgrade"
        refused = self.ask("GET", tunnel, UPGRADE, connection=idler)
        self.assertEqual(refused.status, 503)
        client.transport.loseConnection()
        self.world.run_until(stopping, limit=5.0)

    def test_waiting_client(self) -> None:
        """A client that waits for the server is sent away at once."""
        self.full_pool()
        running = self.connect()
        self.server_host.power_off()
        results: list[Any] = []
        for _ in range(8):
            connectProtocol(self.client(), Recorder()).addErrback(results.append)
        self.world.run_until(lambda: self.relay.pairing.waiting_clients > 0)
        stopping = self.relay.stopService()
        self.world.run_until(lambda: bool(results), limit=1.0)
        self.assertEqual(results[0].value.status, 503)
        self.assertIn("about to stop", str(results[0].value))
        running.transport.abortConnection()
        self.relay.end_drain()
        self.world.run_until(stopping)
        self.pools.clear()

    def test_time_is_up(self) -> None:
        """What has not ended in time is broken."""
        self.full_pool()
        client = self.connect()
        stopping = self.relay.stopService()
        self.world.advance(595.0)
        self.assertIsNone(client.lost)
        self.world.run_until(stopping, limit=10.0)
        self.world.run_until(lambda: client.lost is not None)
        self.assertIsInstance(client.lost, ConnectionLost)

    def test_told_again(self) -> None:
        """The wait can be ended before its time, and began with a word."""
        self.full_pool()
        client = self.connect()
        stopping = self.relay.stopService()
        self.world.advance(1.0)
        self.relay.end_drain()
        self.world.run_until(stopping, limit=1.0)
        self.world.run_until(lambda: client.lost is not None)

    def short_messages(self) -> Recorder:
        """Connect a client through a proxy that opens a connection for each request."""
        host = self.relay_host
        defects = Defects(connect_ports=(), speaks_http_1_0=True)
        port = host.reactor.listenTCP(3128, BadProxy(host.reactor, defects))
        self.addCleanup(port.stopListening)
        settings = ProxySettings.of(Proxy(host.address, 3128))
        endpoint = self.client(
            proxies=Proxies(self.client_host.reactor, settings), method=FINITE_MESSAGES
        )
        client = Recorder()
        self.world.run_until(connectProtocol(endpoint, client), 30.0)
        return client

    def test_short_messages(self) -> None:
        """A tunnel that needs new connections keeps the ports until it has ended."""
        self.full_pool()
        client, other = self.short_messages(), self.connect()
        stopping = self.relay.stopService()
        self.world.advance(60.0)
        data = pattern(100_000)
        client.transport.write(data)
        self.world.run_until(lambda: len(client.data) == len(data), 60.0)
        self.assertEqual(bytes(client.data), data)
        refused = self.ask("POST", f"/relay/server/{self.name}/client_sessions/")
        self.assertEqual(refused.status, 503)
        client.transport.loseConnection()
        self.world.run_until(lambda: self.relay.ports == [], 30.0)
        self.assertIsInstance(client.lost, ConnectionDone)
        self.assertFalse(stopping.called)
        other.transport.loseConnection()
        self.world.run_until(stopping, limit=5.0)

    def test_last_bytes_of_short_messages(self) -> None:
        """What the server said last is fetched before the relay stops."""

        class Farewell(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(pattern(300_000))  # type: ignore[union-attr]
                self.transport.loseConnection()  # type: ignore[union-attr]

        self.full_pool(Factory.forProtocol(Farewell))
        client = self.short_messages()
        stopping = self.relay.stopService()
        client.transport.write(b"enough")
        self.world.run_until(stopping, 60.0)
        self.world.advance(1.0)
        self.assertEqual(bytes(client.data), pattern(300_000))
        self.assertIsInstance(client.lost, ConnectionDone)

    def test_told_again_with_short_messages(self) -> None:
        """They do not keep a relay that is told to stop at once."""
        self.full_pool()
        self.short_messages()
        stopping = self.relay.stopService()
        self.world.advance(1.0)
        self.assertFalse(stopping.called)
        self.relay.end_drain()
        self.world.run_until(stopping, limit=1.0)

    def test_nothing_to_wait_for(self) -> None:
        """Without tunnels the relay stops at once."""
        self.full_pool()
        self.world.run_until(self.relay.stopService(), limit=1.0)
        self.relay.end_drain()
