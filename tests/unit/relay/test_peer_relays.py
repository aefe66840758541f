"""Several relays that know of each other, on simulated hosts."""

from __future__ import annotations

import uuid

from twisted.internet.endpoints import connectProtocol

from dwcloud.errors import RelayRefused
from dwcloud.peer.relay_client import RelayClientEndpoint
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.paths import client_sessions_path
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.relay.peer_relays import PeerRelays
from dwcloud.relay.service import RelayService
from tests.unit.net.stream_world import Recorder
from tests.unit.relay.relay_world import RelayTestCase

STRANGER = PeerName.parse("00000000-0000-8000-8000-000000000000")


class PeerRelayTests(RelayTestCase):
    """The server is at the relay of every test; clients ask another one."""

    def setUp(self) -> None:
        super().setUp()
        self.other_host = self.internet.host("203.0.113.6", name="other")
        self.other = self.start_other("http://203.0.113.5:3349")

    def start_other(self, *peers: str, port: int = 3349) -> RelayService:
        """Start a relay that knows of others."""
        other = RelayService(
            self.other_host.reactor,
            [f"tcp:{port}"],
            peer_relays=[ServiceURL.parse(url) for url in peers],
            drain=60.0,
            random_bytes=self.world.random_bytes,
        )
        other.startService()
        self.addCleanup(self.stop_other, other)
        return other

    def stop_other(self, other: RelayService) -> None:
        if other.running:
            self.world.run_until(other.stopService())

    def connect_by_other(self, name: PeerName, port: int = 3349) -> Recorder:
        """Connect a client whose relay is the other one."""
        recorder = Recorder()
        endpoint = RelayClientEndpoint(
            self.client_host.reactor, f"http://203.0.113.6:{port}", name
        )
        self.world.run_until(connectProtocol(endpoint, recorder))
        return recorder

    def test_sent_on(self) -> None:
        """A client is sent to the relay that has the server, which carries it."""
        self.full_pool()
        for name in (self.name, PeerName(self.name.system)):
            client = self.connect_by_other(name)
            client.transport.write(b"by way of the other")
            self.world.run_until(lambda client=client: len(client.data) == 19)
            self.assertEqual(client.data, b"by way of the other")
            client.transport.loseConnection()
        self.world.advance(1.0)
        ended = self.statistics()["ended"]
        self.assertEqual((ended["tunnels"], ended["bytes_to_server"]), (2, 38))
        self.assertEqual(self.other.pairing.sessions, 0)

    def test_nowhere(self) -> None:
        """A server that no relay has is refused as where there is one relay only."""
        with self.assertRaises(RelayRefused) as caught:
            self.connect_by_other(STRANGER)
        self.assertEqual(caught.exception.status, 404)
        self.assertIn(f"no server {STRANGER}", str(caught.exception))

    def test_ring(self) -> None:
        """Relays that name each other do not ask, nor send a client, in a circle."""
        self.start_other("http://203.0.113.6:3351", port=3350)
        self.start_other("http://203.0.113.6:3350", port=3351)
        with self.assertRaises(RelayRefused) as caught:
            self.connect_by_other(STRANGER, 3350)
        self.assertEqual(caught.exception.status, 404)

    def test_dead_relay(self) -> None:
        """One that does not answer holds a client up for 2 s, and no longer."""
        self.full_pool()
        self.start_other("http://203.0.113.99:1", port=3350)
        began = self.client_host.reactor.seconds()
        with self.assertRaises(RelayRefused):
            self.connect_by_other(self.name, 3350)
        self.assertLess(self.client_host.reactor.seconds() - began, 3.0)
        self.start_other("http://203.0.113.99:1", "http://203.0.113.5:3349", port=3351)
        client = self.connect_by_other(self.name, 3351)
        self.assertLess(self.client_host.reactor.seconds() - began, 5.0)
        client.transport.loseConnection()

    def test_many_questions(self) -> None:
        """Strangers with many names do not keep the others from being sent on."""
        self.full_pool()
        urls = [ServiceURL.parse(u) for u in ("http://203.0.113.99:1", self.url)]
        relays = PeerRelays(self.other_host.reactor, urls)
        absent = [PeerName(uuid.UUID(int=n), uuid.UUID(int=n)) for n in range(1, 121)]
        questions = [relays.locate(name) for name in absent]
        self.assertEqual([q.called for q in questions], [True] * 20 + [False] * 100)
        located = [relays.locate(self.name) for _ in range(3)]
        located[0].addErrback(lambda failure: None)
        located[0].cancel()
        for each in located[1:]:
            self.assertEqual(self.world.run_until(each), urls[1])
        self.world.advance(3.0)
        self.assertTrue(all(q.called for q in questions))

    def test_asked_again(self) -> None:
        """What nobody has is asked for once a second."""
        relays = PeerRelays(self.other_host.reactor, [ServiceURL.parse(self.url)])
        self.assertIsNone(self.world.run_until(relays.locate(STRANGER)))
        self.assertTrue(relays.locate(STRANGER).called)
        self.world.advance(1.1)
        again = relays.locate(STRANGER)
        self.assertFalse(again.called)
        self.assertIsNone(self.world.run_until(again))

    def test_draining(self) -> None:
        """A relay that drains sends clients to another one that has the server."""
        self.full_pool()
        connection = self.http()
        present = self.ask("HEAD", client_sessions_path(self.name))
        self.assertEqual(present.status, 200)
        absent = self.ask("HEAD", client_sessions_path(STRANGER), (), connection)
        self.assertEqual(absent.status, 404)
        self.other.switchboard.drain(60.0)
        client = self.connect_by_other(self.name)
        client.transport.loseConnection()
        self.world.advance(1.0)
        self.assertEqual(self.statistics()["ended"]["tunnels"], 1)
