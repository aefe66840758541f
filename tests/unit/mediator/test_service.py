"""The mediator's sockets, on a simulated host."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.mediator.configuration import Limits, MediatorConfiguration
from dwcloud.mediator.service import MediatorService, StreamSocket, UDPSocket
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import Bind
from dwcloud.protocol.mediation.paths import (
    RELAYS_PATH,
    STATISTICS_PATH,
    TUNNEL_PATH,
    TUNNEL_TOKEN,
)
from dwcloud.protocol.stun.binding import binding_request, reflexive_address
from dwcloud.protocol.stun.message import MessageClass, STUNMessage
from tests.unit.mediator.world import IDENTITIES, MEDIATOR, PORT, MediatedWorld

TRANSACTION = b"transactions"


class Talker(Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.data = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


class ConnectionTests(SynchronousTestCase):
    """TCP connections of all kinds."""

    def setUp(self) -> None:
        self.world = MediatedWorld(
            MediatorConfiguration(limits=Limits(anonymous_connections=3))
        )
        self.host = self.world.internet.host("198.51.100.9")

    def talk(self, data: bytes = b"") -> Talker:
        """Connect and send."""
        reactor: Any = self.host.reactor
        endpoint = TCP4ClientEndpoint(reactor, MEDIATOR, PORT)
        connecting = endpoint.connect(Factory.forProtocol(Talker))
        talker = self.world.world.run_until(connecting, 5.0)
        assert isinstance(talker, Talker) and talker.transport is not None
        talker.transport.write(data)
        self.world.world.advance(0.2)
        return talker

    def test_binding(self) -> None:
        """Any STUN client learns its address over TCP, too."""
        talker = self.talk(binding_request(TRANSACTION).encode())
        answer = STUNMessage.decode(talker.data)
        self.assertEqual(reflexive_address(answer).host, "198.51.100.9")

    def test_byte_by_byte(self) -> None:
        """A message may come in pieces, from the first byte on."""
        talker = self.talk()
        assert talker.transport is not None
        for byte in binding_request(TRANSACTION).encode():
            talker.transport.write(bytes([byte]))
            self.world.world.advance(0.1)
        self.assertEqual(len(talker.data) % 4, 0)
        self.assertIs(
            STUNMessage.decode(talker.data).message_class, MessageClass.SUCCESS
        )

    def test_upgrade(self) -> None:
        """The same port carries STUN inside the HTTP method upgrade."""
        head = (
            f"GET {TUNNEL_PATH}/upgrade HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\n"
            f"Upgrade: {TUNNEL_TOKEN}\r\n\r\n"
        )
        talker = self.talk(head.encode() + binding_request(TRANSACTION).encode())
        answer_head, _, rest = talker.data.partition(b"\r\n\r\n")
        self.assertIn(b"101", answer_head.split(b"\r\n")[0])
        self.assertIs(STUNMessage.decode(rest).message_class, MessageClass.SUCCESS)

    def test_statistics(self) -> None:
        """The counters are shown as JSON."""
        self.world.online_server()
        head = f"GET {STATISTICS_PATH} HTTP/1.1\r\nHost: m\r\n\r\n"
        talker = self.talk(head.encode())
        shown = json.loads(talker.data.partition(b"\r\n\r\n")[2])
        self.assertEqual(shown["servers_online"], 1)
        self.assertEqual(shown["registrations"], 1)

    def test_relays(self) -> None:
        """The relays are listed that servers and clients are told of."""
        talker = self.talk(f"GET {RELAYS_PATH} HTTP/1.1\r\nHost: m\r\n\r\n".encode())
        shown = json.loads(talker.data.partition(b"\r\n\r\n")[2])
        self.assertEqual(shown, {"relays": ["http://:3349"]})

    def test_front_page(self) -> None:
        """A browser gets a page that says where it is, and 404 for anything else."""
        talker = self.talk(b"GET / HTTP/1.1\r\nHost: m\r\n\r\n")
        head, _, page = talker.data.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 "), head)
        self.assertIn(b"<h1>dwcloud mediator</h1>", page)
        talker = self.talk(b"GET /favicon.ico HTTP/1.1\r\nHost: m\r\n\r\n")
        self.assertTrue(talker.data.startswith(b"HTTP/1.1 404 "), talker.data)

    def test_silence_before_the_first_byte(self) -> None:
        """A connection that says nothing is closed after 15 seconds."""
        talker = self.talk()
        self.world.world.advance(14.5)
        self.assertFalse(talker.lost)
        self.world.world.advance(1.0)
        self.assertTrue(talker.lost)

    def test_silence_after_a_request(self) -> None:
        """One that is nobody's is closed after 15 seconds, too."""
        talker = self.talk(binding_request(TRANSACTION).encode())
        self.world.world.advance(14.0)
        self.assertFalse(talker.lost)
        self.world.world.advance(2.0)
        self.assertTrue(talker.lost)
        self.assertEqual(self.world.snapshot["connections_silent"], 1)

    def test_other_protocols(self) -> None:
        """TLS, HTTP/2 and others at a socket of STUN and HTTP end within 15 s."""
        for data in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
        ):
            talker = self.talk(data)
            self.world.world.advance(16.0)
            self.assertTrue(talker.lost, data)

    def test_half_a_message(self) -> None:
        """Dribbling bytes is no sign of life."""
        talker = self.talk(binding_request(TRANSACTION).encode()[:8])
        assert talker.transport is not None
        self.world.world.advance(10.0)
        talker.transport.write(b"1234")
        self.world.world.advance(6.0)
        self.assertTrue(talker.lost)

    def test_too_many(self) -> None:
        """A flood of connections pushes out its own, not the servers."""
        server = self.world.online_server()
        talkers = [self.talk(binding_request(TRANSACTION).encode()) for _ in range(5)]
        self.assertEqual([t.lost for t in talkers], [True, True, False, False, False])
        self.assertEqual(self.world.snapshot["connections_evicted"], 2)
        self.world.world.advance(60.0)
        self.assertEqual(server.offline, [])

    def test_too_many_http(self) -> None:
        """Those that carry HTTP have their own room, and are counted."""
        head = f"GET {STATISTICS_PATH} HTTP/1.1\r\nHost: m\r\n\r\n".encode()
        talkers = [self.talk(head) for _ in range(5)]
        self.assertEqual([t.lost for t in talkers], [True, True, False, False, False])
        self.assertEqual(self.world.snapshot["connections_http"], 3)
        self.assertEqual(self.world.snapshot["connections_http_evicted"], 2)
        self.assertEqual(self.world.snapshot["connections_evicted"], 0)

    def test_garbage(self) -> None:
        """What begins like STUN and is not ends the connection."""
        self.assertTrue(self.talk(bytes(20)).lost)

    def test_unknown_attribute(self) -> None:
        """A request with what is not understood gets 420, and the connection stays."""
        raw = Bind().to_stun(TRANSACTION).encode()
        talker = self.talk(raw[:2] + b"\0\4" + raw[4:] + b"\x77\x77\0\0")
        self.assertIs(STUNMessage.decode(talker.data).message_class, MessageClass.ERROR)
        self.assertFalse(talker.lost)


class ReplayTests(SynchronousTestCase):
    """What was recorded on the wire is of no use to anybody."""

    def test_recorded_registration(self) -> None:
        """All that a server sent, sent again from elsewhere, registers nobody."""
        world = MediatedWorld()
        server = world.server()
        recorded: list[bytes] = []
        _record_tcp(server.host, recorded)
        world.world.run_until(lambda: server.online, 5.0)
        world.world.advance(0.5)
        self.assertGreater(len(b"".join(recorded)), 1000)
        world.world.run_until(server.link.stopService(), 1.0)
        world.world.advance(1.0)
        self.assertEqual(world.snapshot["servers_online"], 0)
        thief: Any = world.internet.host("198.51.100.66").reactor
        endpoint = TCP4ClientEndpoint(thief, MEDIATOR, PORT)
        talker = world.world.run_until(
            endpoint.connect(Factory.forProtocol(Talker)), 5.0
        )
        for data in recorded:
            talker.transport.write(data)
            world.world.advance(0.2)
        self.assertEqual(world.snapshot["servers_online"], 0)
        self.assertEqual(world.snapshot["registrations"], 1)

    def test_takeover(self) -> None:
        """A server with another key cannot take a name, whatever it claims."""
        world = MediatedWorld()
        victim = world.online_server("198.51.100.2", IDENTITIES[0])
        thief = world.server("198.51.100.66", IDENTITIES[1])
        credentials = thief.link._credentials
        object.__setattr__(credentials, "name", victim.identity.name)
        world.world.advance(2.0)
        self.assertEqual(thief.online, [])
        self.assertIn("did not accept the proof", thief.offline[0])
        self.assertEqual(victim.offline, [])
        # Nor with the victim's certificates, which are no secret.
        object.__setattr__(credentials, "certificates", victim.identity.certificates)
        world.world.advance(20.0)
        self.assertEqual(thief.online, [])
        self.assertEqual(victim.offline, [])
        self.assertGreater(world.snapshot["bad_proofs"], 0)


def _record_tcp(host: Any, recorded: list[bytes]) -> None:
    """Keep the TCP payload that a host sends."""
    send_segment = host.send_segment

    def recording(source: Any, destination: Any, segment: Any, data: bytes) -> Any:
        if data:
            recorded.append(bytes(data))
        return send_segment(source, destination, segment, data)

    host.send_segment = recording


class SocketTests(SynchronousTestCase):
    """Opening and closing."""

    def test_addresses(self) -> None:
        """What is open is told, with the ports that were free."""
        world = MediatedWorld()
        self.assertEqual(
            world.service.addresses,
            [("tcp", Address("0.0.0.0", 3345)), ("udp", Address("0.0.0.0", 3345))],
        )

    def test_in_use(self) -> None:
        """A port in use is an error, and what was opened before is closed again."""
        world = MediatedWorld()
        reactor: Any = world.host.reactor
        second = MediatorService(
            reactor,
            MediatorConfiguration(),
            [StreamSocket("tcp:9", TCP4ServerEndpoint(reactor, 9))],
            [UDPSocket(PORT)],
        )
        self.assertRaises(CannotListenError, second.privilegedStartService)
        self.assertEqual(second.addresses, [])
        world.world.advance(0.1)
        reactor.listenTCP(9, Factory())

    def test_stop(self) -> None:
        """Stopping closes all sockets and connections and leaves no timer."""
        world = MediatedWorld()
        server, client = world.online_server(), world.client()
        client.connect(server.identity.name).addErrback(lambda _: None)
        world.world.advance(0.015)
        world.world.run_until(world.service.stopService(), 1.0)
        world.world.run_until(lambda: server.offline, 1.0)
        self.assertEqual(list(world.host.reactor.getDelayedCalls()), [])
        self.assertEqual(world.service.addresses, [])
