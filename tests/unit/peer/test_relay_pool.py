"""A server's pool at a relay."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from dwcloud.errors import ConfigurationError
from dwcloud.net.http_client import carrier_endpoint
from dwcloud.peer.relay_pool import RelayPool
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.relay.service import RelayService
from tests.unit.net.stream_world import Recorder, test_identity
from tests.unit.relay.relay_world import Echo, RelayTestCase


class RelayPoolTests(RelayTestCase):
    def test_full_with_one_proof(self) -> None:
        """Seven connections are opened, and only the first proves the name."""
        self.full_pool()
        self.assertEqual(self.relay.pairing.idle_connections, 7)
        self.assertEqual(self.statistics()["ended"]["proofs_accepted"], 1)
        self.assertEqual(self.statuses, [("listening", "")])

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
        before = set(self.server_host.connections)
        self.world.advance(7200.0)
        self.assertEqual(pool.idle_connections, 7)
        self.assertEqual(set(self.server_host.connections), before)

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
