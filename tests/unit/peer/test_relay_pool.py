"""A server's pool at a relay."""

from __future__ import annotations

import itertools
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from dwcloud.errors import ConfigurationError
from dwcloud.net.http_client import carrier_endpoint
from dwcloud.net.http_messages import Request, Response, SwitchProtocols
from dwcloud.net.http_server import HTTPServerFactory
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tls import ServerTLS, UnverifiedTLS
from dwcloud.peer.relay_pool import RelayPool
from dwcloud.protocol.tunnelling.methods import METHOD_NAMES, WEBSOCKET
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.protocol.tunnelling.websocket import why_unavailable
from dwcloud.relay.service import RelayService
from dwcloud.testing.proxy import BadProxy, Defects
from tests.unit.net.forwarding import Forwarding
from tests.unit.net.stream_world import Recorder, test_identity
from tests.unit.relay.relay_world import Echo, RelayTestCase


def is_full(pool: RelayPool) -> bool:
    """Whether all its idle connections are there."""
    return pool.idle_connections >= 7


class RelayPoolTests(RelayTestCase):
    def test_full_with_one_proof(self) -> None:
        """Seven connections are opened, and only the first proves the name."""
        self.full_pool()
        self.assertEqual(self.relay.pairing.idle_connections, 7)
        self.assertEqual(self.statistics()["ended"]["proofs_accepted"], 1)
        self.assertEqual(self.statuses, [("listening", "")])

    def test_tls_ends_before_the_relay(self) -> None:
        """A server in front may take TLS off: the proof is then not bound to it."""
        front = TLSMemoryBIOFactory(
            ServerTLS(self.identity),
            False,
            Forwarding(self.relay_host, ("203.0.113.5", 3349)),
            self.relay_host.reactor,
        )
        self.relay_host.reactor.listenTCP(443, front)
        pool = self.pool_with_tls(443)
        self.world.run_until(lambda: pool.idle_connections >= 7, 30.0)
        self.assertEqual(self.statistics()["ended"]["proofs_accepted"], 1)

    def test_proof_of_another_tls_connection(self) -> None:
        """Who relays proofs from his TLS to the relay's own does not get in with them.

        That holds for the bound proof and for the one without.
        """
        self.relay_host.reactor.listenTCP(
            443,
            TLSMemoryBIOFactory(
                ServerTLS(self.identity),
                False,
                self.relay.http,
                self.relay_host.reactor,
            ),
        )
        inward = TLSMemoryBIOFactory(
            ServerTLS(self.identity),
            False,
            Forwarding(self.relay_host, ("203.0.113.5", 443), UnverifiedTLS("relay")),
            self.relay_host.reactor,
        )
        self.relay_host.reactor.listenTCP(444, inward)
        pool = self.pool_with_tls(444)
        self.world.advance(60.0)
        self.assertEqual(pool.idle_connections, 0)
        figures = self.statistics()["ended"]
        self.assertEqual(figures["proofs_accepted"], 0)
        self.assertGreater(figures["refused"]["401"], 4)
        self.assertEqual(self.statuses[-1][0], "failed")

    def test_forged_refusal(self) -> None:
        """Only who refuses a bound proof gets one that is not bound to TLS."""
        forging = False
        proven: list[bool] = []

        def answer(request: Request) -> Any:
            if forging:
                return Response(401, b"", close=True)
            answering = maybeDeferred(cast(Any, self.relay._tunnels), request)
            if (request.header("authorization") or "").startswith("DWCloud "):
                answering.addCallback(note)
            return answering

        def note(reply: Any) -> Any:
            proven.append(isinstance(reply, SwitchProtocols))
            return reply

        http = HTTPServerFactory(answer, self.relay_host.reactor)
        self.relay_host.reactor.listenTCP(
            443,
            TLSMemoryBIOFactory(
                ServerTLS(self.identity), False, http, self.relay_host.reactor
            ),
        )
        pool = self.pool_with_tls(443, method="upgrade")
        self.world.run_until(lambda: pool.idle_connections >= 7, 30.0)
        self.assertEqual(proven, [True])
        forging = True
        pool.network_changed()
        self.world.run_until(lambda: self.statuses[-1][0] == "failed", 30.0)
        forging = False
        self.world.run_until(lambda: pool.idle_connections >= 7, 120.0)
        self.assertGreater(len(proven), 1)
        self.assertEqual(set(proven), {True})

    def pool_with_tls(self, port: int, **options: Any) -> RelayPool:
        """Start a pool that speaks TLS to a port of the relay's host."""
        url = ServiceURL("https", "203.0.113.5", port)
        carrier = carrier_endpoint(
            self.server_host.reactor, url, tls=UnverifiedTLS(url.host)
        )
        pool = RelayPool(
            self.server_host.reactor,
            str(url),
            self.identity,
            Factory.forProtocol(Echo),
            carrier=carrier,
            onStatus=lambda status, reason: self.statuses.append((status, reason)),
            **options,
        )
        self.pools.append(pool)
        pool.startService()
        return pool

    def test_replaced_at_once(self) -> None:
        """A connection that a client took is replaced within a round trip or two."""
        pool = self.full_pool()
        client = self.connect()
        self.world.advance(1.0)
        self.assertEqual(pool.idle_connections, 7)
        self.assertEqual(self.relay.pairing.idle_connections, 7)
        client.transport.loseConnection()

    def test_kept_for_hours(self) -> None:
        """KEEP_ALIVE keeps the same connections; nothing is opened anew."""
        pool = self.full_pool()
        self.world.advance(1.0)
        before = set(self.server_host.connections)
        self.world.advance(7200.0)
        self.assertEqual(pool.idle_connections, 7)
        self.assertEqual(set(self.server_host.connections), before)

    def test_something_each_way(self) -> None:
        """An idle connection says something in both directions, by every method.

        A proxy that cuts what is quiet in one direction for 25 s leaves it alone.
        """
        host = self.relay_host
        for method in METHOD_NAMES[:3]:
            with self.subTest(method=method):
                if method == WEBSOCKET and why_unavailable():
                    continue
                proxy = BadProxy(host.reactor, Defects(one_way_limit=25.0))
                port = host.reactor.listenTCP(3128, proxy)
                settings = ProxySettings.of(Proxy(host.address, 3128))
                proxies = Proxies(self.server_host.reactor, settings)
                pool = self.pool(proxies=proxies, method=method)
                self.world.run_until(partial(is_full, pool), 30.0)
                before = set(proxy.connections)
                self.world.advance(300.0)
                self.assertEqual(set(proxy.connections), before)
                self.exchange()
                self.world.run_until(pool.stopService())
                port.stopListening()
                self.world.advance(20.0)

    def test_forced_method_outlives_networks(self) -> None:
        """The method that a program chose stays chosen in another network."""
        pool = RelayPool(
            self.server_host.reactor,
            self.url,
            self.identity,
            Factory.forProtocol(Echo),
            method="post",
            random_bytes=self.world.random_bytes,
        )
        self.pools.append(pool)
        pool.startService()
        self.world.run_until(lambda: pool.idle_connections >= 7)
        pool.selected_method = ""
        pool.network_changed()
        self.world.run_until(lambda: pool.idle_connections >= 7)
        self.assertEqual(pool.selected_method, "post")

    def test_cut_again_and_again(self) -> None:
        """Where streams live for a minute alone, short requests take their place."""
        host = self.relay_host
        proxy = BadProxy(host.reactor, Defects(life_limit=60.0))
        port = host.reactor.listenTCP(3128, proxy)
        self.addCleanup(port.stopListening)
        settings = ProxySettings.of(Proxy(host.address, 3128))
        pool = self.pool(proxies=Proxies(self.server_host.reactor, settings))
        self.world.run_until(lambda: pool.idle_connections >= 7, 30.0)
        self.assertEqual(pool.selected_method, "upgrade")
        self.world.advance(70.0)
        self.assertEqual(pool.selected_method, "upgrade")
        self.world.advance(80.0)
        self.assertEqual(pool.selected_method, "finite_messages")
        self.assertEqual(pool.idle_connections, 7)
        # These survive what is cut.
        client = self.connect()
        self.world.advance(150.0)
        client.transport.write(b"still there?")
        self.world.run_until(lambda: client.data == b"still there?", 30.0)
        self.assertEqual(pool.idle_connections, 7)

    def test_requests_passed_on_one_by_one(self) -> None:
        """A proxy may have another connection for each request; the proof holds.

        The answer to the relay's challenge comes by another one than the challenge
        went, and in the end on another one of the server's as well.
        """
        host = self.relay_host
        for closes, method in itertools.product((False, True), METHOD_NAMES):
            with self.subTest(method=method, closes=closes):
                if method == WEBSOCKET and why_unavailable():
                    continue
                before = self.statistics()["ended"]
                defects = Defects(connect_ports=(), closes_connections=closes)
                proxy = BadProxy(host.reactor, defects)
                port = host.reactor.listenTCP(3128, proxy)
                settings = ProxySettings.of(Proxy(host.address, 3128))
                proxies = Proxies(self.server_host.reactor, settings)
                pool = self.pool(proxies=proxies, method=method)
                self.world.run_until(partial(is_full, pool), 30.0)
                self.assertEqual(pool.selected_method, method)
                ended = self.statistics()["ended"]
                proofs = ended["proofs_accepted"] - before["proofs_accepted"]
                refused = ended["refused"]["401"] - before["refused"].get("401", 0)
                self.assertEqual((proofs, refused), (1, 1))
                self.assertNotIn("CONNECT", [verb for verb, _ in proxy.requests[-7:]])
                self.exchange()
                self.world.run_until(pool.stopService())
                port.stopListening()
                self.world.advance(20.0)

    def exchange(self) -> None:
        """Let a client send something to the server and get it back."""
        client = self.connect()
        client.transport.write(b"back")
        self.world.run_until(lambda: client.data == b"back", 30.0)
        client.transport.loseConnection()

    def test_ticket_expires(self) -> None:
        """A ticket that is too old is renewed by a proof, without a pause."""
        pool = self.full_pool()
        self.world.advance(700.0)
        client = self.connect()
        self.world.advance(1.0)
        self.assertEqual(pool.idle_connections, 7)
        self.assertEqual(self.statistics()["ended"]["proofs_accepted"], 2)
        client.transport.loseConnection()

    def test_relay_lost_power(self) -> None:
        """Connections that died without a word are noticed and given up."""
        pool = self.full_pool()
        self.relay_host.power_off()
        self.world.advance(100.0)
        self.assertEqual(pool.idle_connections, 0)
        self.world.run_until(pool.stopService())
        self.relay = RelayService(self.server_host.reactor, [])

    def test_server_lost_power(self) -> None:
        """A server that answers no KEEP_ALIVE is gone, though a proxy takes them."""
        host = self.relay_host
        proxy = BadProxy(host.reactor)
        port = host.reactor.listenTCP(3128, proxy)
        self.addCleanup(port.stopListening)
        settings = ProxySettings.of(Proxy(host.address, 3128))
        pool = self.pool(proxies=Proxies(self.server_host.reactor, settings))
        self.world.run_until(partial(is_full, pool))
        self.server_host.power_off()
        self.world.advance(50.0)
        self.assertEqual(self.relay.pairing.idle_connections, 7)
        self.world.advance(30.0)
        self.assertEqual(self.relay.pairing.idle_connections, 0)
        self.pools.clear()

    def test_flooding_relay(self) -> None:
        """A relay that asks without end is not answered without end."""

        class Flooding(Recorder):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                if data.startswith(b"GET"):
                    self.transport.write(
                        b"HTTP/1.1 101 S\r\nConnection: upgrade\r\n"
                        b"Upgrade: dwcloud-relay\r\n\r\n"
                    )
                else:
                    # What is first is sent back for the tunnel to count.
                    self.transport.write(data + b"KEEP_ALIVE\r\n" * 1000)

        flooding = Flooding()
        factory = Factory.forProtocol(lambda: flooding)
        self.relay_host.reactor.listenTCP(80, factory)
        self.url = "http://203.0.113.5"
        self.pool(method="upgrade")
        self.world.run_until(lambda: flooding.lost is not None)
        answers = bytes(flooding.data).count(b"KEEP_ALIVE\r\n")
        self.assertLessEqual(answers, 20)

    def test_relay_not_there_yet(self) -> None:
        """A relay that starts later is found, and the failure is told once."""
        self.world.run_until(self.relay.stopService())
        pool = self.pool()
        self.world.advance(30.0)
        self.assertEqual([status for status, _ in self.statuses], ["failed"])
        self.assertIn("refused", self.statuses[0][1])
        self.start_relay()
        self.world.run_until(lambda: pool.idle_connections == 7)
        self.assertEqual(self.statuses[-1], ("listening", ""))

    def test_impostor(self) -> None:
        """A pool whose key is not that of the name is refused for good reasons."""
        right, wrong = self.identity, test_identity(1)

        class Impostor:
            name = right.name
            certificates = right.certificates
            sign = wrong.sign

        self.pool(identity=Impostor())  # type: ignore[arg-type]
        self.world.advance(20.0)
        ((status, reason),) = self.statuses
        self.assertEqual(status, "failed")
        self.assertIn("signature", reason)
        self.assertEqual(self.relay.pairing.online_servers, 0)

    def test_relay_that_talks_nonsense(self) -> None:
        """A relay that accepts and then says something else is left for a while."""

        class Nonsense(Recorder):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(
                    b"HTTP/1.1 101 S\r\nConnection: upgrade\r\n"
                    b"Upgrade: dwcloud-relay\r\n\r\nHELLO\r\n"
                )

        self.relay_host.reactor.listenTCP(80, Factory.forProtocol(Nonsense))
        self.url = "http://203.0.113.5"
        pool = self.pool()
        self.world.advance(10.0)
        self.assertEqual(pool.idle_connections, 0)

    def test_factory_refuses(self) -> None:
        """A factory that makes no protocol closes the client's connection."""
        factory = Factory.forProtocol(Echo)
        factory.buildProtocol = lambda addr: None  # type: ignore[method-assign]
        self.full_pool(factory)
        client = self.connect()
        self.world.run_until(lambda: client.lost is not None)

    def test_streams_outlive_the_pool(self) -> None:
        """Stopping the pool takes no stream away from those who have one."""
        pool = self.full_pool()
        client = self.connect()
        self.world.advance(1.0)
        self.world.run_until(pool.stopService())
        client.transport.write(b"still here")
        self.world.run_until(lambda: client.data == b"still here")
        client.transport.loseConnection()

    def test_stop_while_opening(self) -> None:
        """A pool that stops at any moment leaves nothing behind."""
        for moment in (0.0, 0.03, 0.05, 0.08, 0.12, 0.2):
            pool = self.pool()
            self.world.advance(moment)
            self.world.run_until(pool.stopService())
            self.world.advance(1.0)
            self.assertEqual(self.server_host.connections, [])
            self.assertEqual(list(self.server_host.reactor.getDelayedCalls()), [])

    def test_configuration(self) -> None:
        """A URL that is not one is told at once."""
        with self.assertRaises(ConfigurationError):
            RelayPool(
                self.server_host.reactor,
                "relay:3349",
                self.identity,
                Factory.forProtocol(Protocol),
            )


@implementer(IOpenSSLClientConnectionCreator)
class TrustAnyone:
    """TLS that verifies nothing, for a relay with a certificate of its own making."""

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)


class TLSRelayTests(RelayTestCase):
    def start_relay(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        # Any key with a certificate will do for the relay's own TLS.
        test_identity(1).save(Path(directory.name))
        key, certificate = (
            Path(directory.name, name) for name in ("server.key", "server.crt")
        )
        self.relay = RelayService(
            self.relay_host.reactor,
            [f"ssl:443:privateKey={key}:certKey={certificate}"],
            random_bytes=self.world.random_bytes,
        )
        self.relay.startService()
        self.url = "https://203.0.113.5"

    def carrier(self, host: Any) -> Any:
        url = ServiceURL.parse(self.url)
        return carrier_endpoint(host.reactor, url, tls=TrustAnyone())

    def test_proof_of_each_method(self) -> None:
        """Each method's proof is bound to the TLS connection on which it goes."""
        for method in METHOD_NAMES:
            with self.subTest(method=method):
                if method == WEBSOCKET and why_unavailable():
                    continue
                before = self.relay.figures()["ended"]
                pool = self.pool(carrier=self.carrier(self.server_host), method=method)
                self.world.run_until(partial(is_full, pool), 30.0)
                ended = self.relay.figures()["ended"]
                proofs = ended["proofs_accepted"] - before["proofs_accepted"]
                refused = ended["refused"]["401"] - before["refused"].get("401", 0)
                self.assertEqual((proofs, refused), (1, 1))
                self.world.run_until(pool.stopService())

    def test_through_tls(self) -> None:
        """Proof, pool and streams work inside TLS, bound to the TLS connection."""
        self.url = "https://203.0.113.5"
        pool = RelayPool(
            self.server_host.reactor,
            self.url,
            self.identity,
            Factory.forProtocol(Echo),
            carrier=self.carrier(self.server_host),
            random_bytes=self.world.random_bytes,
        )
        self.pools.append(pool)
        pool.startService()
        self.world.run_until(lambda: pool.idle_connections == 7)
        recorder = Recorder()
        factory = Factory.forProtocol(lambda: recorder)
        endpoint = self.client(carrier=self.carrier(self.client_host))
        self.world.run_until(endpoint.connect(factory))
        data = bytes(range(256)) * 1000
        recorder.transport.write(data)
        self.world.run_until(lambda: len(recorder.data) == len(data))
        self.assertEqual(bytes(recorder.data), data)
        recorder.transport.loseConnection()
        self.world.run_until(lambda: recorder.lost is not None)
