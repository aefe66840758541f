"""A mediator with accounts: members are introduced, strangers learn nothing."""

from __future__ import annotations

import uuid
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.access import AccessTable
from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.net.identity import SystemIdentity
from dwcloud.net.signing import SigningKey, verifier
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.grants import AccessGrant, RelayGrant, Role
from dwcloud.protocol.mediation.messages import Connect, ConnectResponse
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.stun.message import STUNMessage

from .test_service import Talker
from .world import IDENTITIES, MEDIATOR, PORT, SYSTEM, MediatedWorld

NAME = IDENTITIES[0].name
GUID = SYSTEM.name.system
ANN = uuid.UUID(int=10)
TRANSACTION = b"transactions"
UNKNOWN = PeerName(uuid.uuid4(), uuid.uuid4())


class _Asker(DatagramProtocol):
    """Asks over UDP and notes when each answer came."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.answers: list[tuple[float, bytes]] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.answers.append((self._reactor.seconds(), datagram))


class AccessCase(SynchronousTestCase):
    """A server of a bound system, online, and a client that asks."""

    def setUp(self) -> None:
        self.key = SigningKey.generate()
        self.table = AccessTable(
            self.key, lambda: self.now, lambda size: uuid.uuid4().bytes
        )
        self.table.load(GUID, public=False, web=False)
        self.world = MediatedWorld(
            MediatorConfiguration(relay_urls=("http://:3349",)), admitter=self.table
        )
        self.host = self.world.internet.host("198.51.100.9")
        self.reactor: Any = self.host.reactor
        self.asker = _Asker(self.reactor)
        self.port = self.reactor.listenUDP(0, self.asker)

    @property
    def now(self) -> float:
        """Seconds on all clocks of the world."""
        return self.world.world.seconds()

    def grant(self, system: uuid.UUID = GUID) -> bytes:
        """Return a grant of Ann's."""
        issued = self.table.issue(
            system,
            ANN,
            Role.VIEWER,
            b"k" * 32,
            account_name="ann",
            asked_ms=self.table.now_ms(),
        )
        return issued.encoded

    def connect(
        self, target: PeerName = NAME, grant: bytes | None = None
    ) -> tuple[float, bytes]:
        """Ask over UDP; return seconds until the answer, and the answer."""
        request = Connect(session_id=uuid.uuid4(), target=target, grant=grant)
        raw = request.to_padded_stun(TRANSACTION).encode()
        before, asked = len(self.asker.answers), self.reactor.seconds()
        self.asker.transport.write(raw, (MEDIATOR, PORT))
        self.world.world.run_until(lambda: len(self.asker.answers) > before, 5.0)
        at, answer = self.asker.answers[before]
        return round(at - asked, 6), answer

    def connect_tcp(
        self, target: PeerName = NAME, grant: bytes | None = None
    ) -> tuple[float, bytes]:
        """Ask over TCP; return seconds until the answer, and the answer."""
        endpoint = TCP4ClientEndpoint(self.reactor, MEDIATOR, PORT)
        connecting = endpoint.connect(Factory.forProtocol(Talker))
        talker = self.world.world.run_until(connecting, 5.0)
        assert isinstance(talker, Talker) and talker.transport is not None
        request = Connect(session_id=uuid.uuid4(), target=target, grant=grant)
        asked = self.reactor.seconds()
        talker.transport.write(request.to_stun(TRANSACTION).encode())
        self.world.world.run_until(lambda: bool(talker.data), 5.0)
        return round(self.reactor.seconds() - asked, 6), talker.data

    def response(self, answer: bytes) -> ConnectResponse:
        """Read an answer."""
        return ConnectResponse.from_stun(STUNMessage.decode(answer))


class StrangerTests(AccessCase):
    """Who may not connect cannot tell whether there is anything."""

    def test_same_answer(self) -> None:
        """Server online, offline, never seen: one answer, bit by bit and as fast."""
        self.world.online_server()
        other = SystemIdentity.generate().name.system
        self.table.load(other, public=False, web=False)
        expired = self.grant()
        self.world.world.advance(13 * 3600)
        foreign = AccessTable(
            SigningKey.generate(), lambda: 0.0, lambda size: bytes(16)
        )
        foreign.load(GUID, public=True, web=False)
        admitted = foreign.admit(NAME, None)
        assert admitted is not None
        forged = admitted.for_client
        for connect in (self.connect, self.connect_tcp):
            expected = connect(UNKNOWN)
            self.assertIs(self.response(expected[1]).result, ResultCode.PEER_UNKNOWN)
            for target, grant in (
                (NAME, None),
                (PeerName(GUID), None),
                (PeerName(GUID, uuid.uuid4()), None),
                (PeerName(other), None),
                (NAME, expired),
                (NAME, forged),
                (NAME, b"\1\1" + bytes(200)),
                (NAME, self.grant(other)),
                (UNKNOWN, self.grant()),
            ):
                with self.subTest(connect=connect.__name__, target=str(target)):
                    self.assertEqual(connect(target, grant), expected)
        snapshot = self.world.snapshot
        self.assertEqual(snapshot["sessions_not_admitted"], 20)

    def test_server_hears_nothing(self) -> None:
        """The server of whom a stranger asks is not even told."""
        server = self.world.online_server()
        self.connect()
        self.world.world.advance(5.0)
        self.assertEqual(server.requests, [])

    def test_session_of_another(self) -> None:
        """Who learns the id of a member's session does not get its answer."""
        self.world.online_server()
        client = self.world.client()
        session = uuid.uuid4()
        asking = client.mediator.request_connection(
            session, NAME, "ann", grant=self.grant()
        )
        self.world.world.run_until(asking, 5.0)
        request = Connect(session_id=session, target=NAME)
        raw = request.to_padded_stun(TRANSACTION).encode()
        self.asker.transport.write(raw, (MEDIATOR, PORT))
        self.world.world.run_until(lambda: bool(self.asker.answers), 5.0)
        answer = STUNMessage.decode(self.asker.answers[0][1])
        self.assertRaises(RemoteProtocolError, ConnectResponse.from_stun, answer)


class MemberTests(AccessCase):
    """Who may connect is introduced, with what server and relay want to see."""

    def test_introduced(self) -> None:
        """The server gets the grant, the client one for relays."""
        server = self.world.online_server()
        client = self.world.client()
        grant = self.grant()
        session = uuid.uuid4()
        asking = client.mediator.request_connection(session, NAME, "ann", grant=grant)
        response = self.world.world.run_until(asking, 5.0)
        self.assertEqual(response.server, NAME)
        self.assertIsNone(response.grant)
        self.assertEqual([r.grant for r in server.requests], [grant])
        relay = RelayGrant.decode(response.relay_grant, verifier(self.key.public_key))
        self.assertEqual((relay.session_id, relay.server), (session, NAME))

    def test_offline(self) -> None:
        """A member is told that his server is offline, even if it never was there."""
        for target in (NAME, PeerName(GUID)):
            _, answer = self.connect(target, self.grant())
            self.assertIs(self.response(answer).result, ResultCode.PEER_OFFLINE)

    def test_public(self) -> None:
        """To a public system anybody is introduced, with a grant of the mediator's."""
        server = self.world.online_server()
        self.table.change(GUID, public=True, web=False)
        client = self.world.client()
        response = self.world.world.run_until(client.connect(NAME), 5.0)
        self.assertIsNotNone(response.grant)
        self.assertEqual([r.grant for r in server.requests], [response.grant])
        check = verifier(self.key.public_key)
        self.assertTrue(AccessGrant.decode(response.grant, check).is_for_everybody)


class ServerTests(AccessCase):
    """Servers register for owners, and are told who may come."""

    def test_told_at_once_and_later(self) -> None:
        """After its registration, and at each change."""
        server = self.world.online_server()
        self.assertEqual(len(server.changes), 1)
        self.assertTrue(server.changes[0].state.is_bound)
        self.table.change(GUID, public=True, web=False)
        self.table.revoke(GUID, ANN, self.table.now_ms())
        self.world.world.advance(1.0)
        _, public, revoked = server.changes
        self.assertTrue(public.state.is_public)
        self.assertEqual([r.account for r in revoked.revocations], [ANN])
        self.table.bind(uuid.uuid4())
        self.world.world.advance(1.0)
        self.assertEqual(len(server.changes), 3)

    def test_nobody_owns_it(self) -> None:
        """A server of an unbound system is refused, and told what to do."""
        self.table.unbind(GUID)
        server = self.world.server()
        self.world.world.run_until(lambda: server.offline, 10.0)
        self.assertIn("403", server.offline[0])
        self.assertIn("bind it: dwcloud system bind", server.offline[0])
        self.assertEqual([c.state.is_bound for c in server.changes], [False])
        self.table.bind(GUID)
        self.world.world.run_until(lambda: server.online, 10.0)

    def test_unbound_while_online(self) -> None:
        """The channel of a server whose system was unbound is closed."""
        server = self.world.online_server()
        self.table.unbind(GUID)
        self.world.world.run_until(lambda: server.offline, 10.0)
        self.assertFalse(server.changes[1].state.is_bound)
        self.assertEqual(self.world.snapshot["servers_online"], 0)
