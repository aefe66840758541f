"""A system that belongs to an account: members get in by every path, others by none."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from dwcloud.accounts.access import AccessTable
from dwcloud.errors import (
    AccessDenied,
    AllAttemptsFailed,
    PeerOffline,
    PeerUnknown,
    RelayRefused,
    SessionRefused,
)
from dwcloud.net.identity import SystemIdentity
from dwcloud.net.path import Path, open_path
from dwcloud.net.signing import SigningKey
from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.cloud_membership import CloudMembership
from dwcloud.peer.relay_client import RelayClientEndpoint
from dwcloud.peer.server import CloudServer
from dwcloud.peer.server_access import ServerAccess
from dwcloud.peer.status import PathKind
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.grants import (
    AccessGrant,
    AccessState,
    ClientGrant,
    RelayGrant,
    Revocation,
    Role,
)
from dwcloud.protocol.mediation.admittance import Admittance
from dwcloud.protocol.names import PeerName
from dwcloud.relay.service import RelayService

from .access_world import ANN, BOB, PATHS, AccessScenario, Holding
from .cloud_world import RELAY_PORT


class MemberTests(AccessScenario):
    """With a grant, by each path."""

    def test_each_path(self) -> None:
        """A member's stream opens and the server knows whose it is."""
        for path in PATHS:
            with self.subTest(path=path):
                self.connect(self.client(path, self.grant()), path)
                opened = self.cloud.events["server"][-1]
                self.assertEqual(opened.event, "stream_opened")
                self.assertEqual(opened.details["path"], path)
                self.assertEqual(opened.details["account"], "ann")

    def test_further_streams(self) -> None:
        """Through an open hole, too, where the mediator is not asked."""
        client = self.client("udp", self.grant())
        self.connect(client, "udp")
        sessions = self.access_sessions()
        self.connect(client, "udp")
        self.assertEqual(self.access_sessions(), sessions)

    def access_sessions(self) -> int:
        """How many sessions the mediator has begun."""
        return int(self.cloud.mediator.mediator.snapshot()["sessions_started"])

    def test_renewed(self) -> None:
        """Whose grant was revoked gets in with the one that follows, unasked."""
        for path in PATHS:
            with self.subTest(path=path):
                old = self.grant()
                now_ms = self.access.now_ms()
                self.access.revoke(self.name.system, ANN, now_ms)
                self.world.advance(1.0)
                client = self.client(path, old, self.grant())
                self.connect(client, path)

    def test_public(self) -> None:
        """To a public system anybody gets, until it is private again."""
        self.access.change(self.name.system, public=True, web=False)
        clients = {path: self.client(path, None) for path in PATHS[1:]}
        held = [self.connect(client, path) for path, client in clients.items()]
        self.access.change(self.name.system, public=False, web=False)
        self.world.advance(1.0)
        self.assertNotIn(None, [each.lost_at for each in held])
        for path, client in clients.items():
            self.assertIsInstance(self.refusal(client, path), PeerUnknown)

    def test_offline(self) -> None:
        """A member learns that his server is offline; a stranger does not."""
        self.world.run_until(self.server.stopService(), 30.0)
        self.world.advance(60.0)
        member, stranger = self.client("udp", self.grant()), self.client("udp", None)
        self.assertIsInstance(self.refusal(member, "udp"), PeerOffline)
        self.assertIsInstance(self.refusal(stranger, "udp"), PeerUnknown)


class StrangerTests(AccessScenario):
    """With the right GUID and no grant that holds, by each path."""

    def assert_out(
        self, grant: ClientGrant | None, renewed: ClientGrant | None = None
    ) -> None:
        """Try each path."""
        for path in PATHS:
            with self.subTest(path=path):
                error = self.refusal(self.client(path, grant, renewed), path)
                if path == "lan":
                    assert isinstance(error, AllAttemptsFailed)
                    (reason,) = error.reasons.values()
                    self.assertIsInstance(reason.value, AccessDenied)
                else:
                    self.assertIsInstance(error, PeerUnknown)
        self.assertEqual(self.service.made, [])

    def test_without_grant(self) -> None:
        """Knowing the name is not enough."""
        self.assert_out(None)

    def test_forged_grant(self) -> None:
        """A grant of a cloud of the stranger's own."""
        table = AccessTable(SigningKey.generate(), self.world.seconds, bytes)
        table.load(self.name.system, public=False, web=False)
        self.assert_out(self.grant(table=table), self.grant(table=table))

    def test_grant_for_another_system(self) -> None:
        """A grant of this very cloud, for a system of the stranger's own."""
        own = SystemIdentity.generate().name.system
        self.access.load(own, public=False, web=False)
        key = SigningKey.generate()
        issued = self.access.issue(
            own,
            BOB,
            Role.OWNER,
            key.public_key,
            account_name="bob",
            asked_ms=self.access.now_ms(),
        )
        self.assert_out(ClientGrant(issued.encoded, key.sign))

    def test_expired_grant(self) -> None:
        """A grant that was good until this morning."""
        grant = self.grant()
        self.world.advance(13 * 3600.0)
        self.assert_out(grant)

    def test_unbound(self) -> None:
        """Nobody, not even the former owner; and not before there is a new one."""
        grant = self.grant()
        held = [self.connect(self.client(path, grant), path) for path in PATHS]
        self.access.unbind(self.name.system)
        self.world.advance(1.0)
        self.assertNotIn(None, [each.lost_at for each in held])
        self.service.made.clear()
        self.assert_out(grant)
        self.access.bind(self.name.system)
        self.world.advance(70.0)
        self.assert_out(grant)
        for path in PATHS:
            self.connect(self.client(path, self.grant(BOB)), path)


class RevocationTests(AccessScenario):
    """A role is taken away while streams run."""

    def revoke(self) -> float:
        """Take Ann's role away; return when."""
        self.access.revoke(self.name.system, ANN, self.access.now_ms())
        return self.world.seconds()

    def test_each_path(self) -> None:
        """Her streams are cut at both ends within a second, Bob's go on."""
        for path in PATHS:
            with self.subTest(path=path):
                self.world.advance(1.0)
                grant = self.grant()
                client = self.client(path, grant)
                mine = self.connect(client, path)
                others = self.connect(self.client(path, self.grant(BOB)), path)
                at = self.revoke()
                self.world.advance(5.0)
                near, far = self.service.made[-2:]
                for end in (mine, near):
                    assert end.lost_at is not None
                    self.assertLess(end.lost_at - at, 1.0)
                for end in (others, far):
                    self.assertIsNone(end.lost_at)
                self.refusal(client, path)
                closed = [
                    e.details
                    for e in self.cloud.events["server"]
                    if e.event == "stream_closed"
                ]
                self.assertIn("taken away", closed[-1]["reason"])

    def test_while_the_server_is_out_of_touch(self) -> None:
        """It learns it within a minute of being back, and cuts then."""
        clients = {path: self.client(path, self.grant()) for path in PATHS}
        held = [self.connect(client, path) for path, client in clients.items()]
        self.world.run_until(self.cloud.mediator.stopService(), 10.0)
        self.revoke()
        self.world.advance(300.0)
        # Nobody could tell the server.
        self.assertEqual([each.lost_at for each in held], [None] * len(held))
        self.cloud.mediator.startService()
        back = self.world.seconds()
        self.world.advance(70.0)
        for each in held:
            assert each.lost_at is not None
            self.assertLess(each.lost_at - back, 61.0)
        for path, client in clients.items():
            self.refusal(client, path)

    def test_over_a_restart(self) -> None:
        """A server that starts again, and finds no mediator, still knows it."""
        grant = self.grant()
        self.revoke()
        self.world.advance(1.0)
        self.world.run_until(self.cloud.mediator.stopService(), 10.0)
        self.world.run_until(self.server.stopService(), 30.0)
        self.restart_server()
        self.world.advance(1.0)
        error = self.refusal(self.client("lan", grant), "lan")
        self.assertIn("taken away", str(error))
        self.connect(self.client("lan", self.grant(BOB)), "lan")

    def restart_server(self) -> None:
        """Start the server again from its files, without its website."""
        self.guard = ServerAccess(
            self.guard.membership, self.name, self.world.seconds, self.directory
        )
        lan = ("192.168.1.", "127.")
        self.server = CloudServer(
            self.server_host.reactor,
            self.identity,
            {"held": self.service},
            self.cloud.address,
            interface=self.server_host.address,
            isLocal=lambda host: host.startswith(lan),
            loadAccess=lambda: self.guard,
        )
        self.server.startService()


class BoundLaterTests(AccessScenario):
    """The system is bound while its server runs."""

    def start_server(self) -> CloudServer:
        """Start a server that knows of no cloud yet."""
        self.file = self.directory / "cloud.json"
        return self.cloud.serve(
            self.server_host,
            self.identity,
            loadAccess=self.load,
            services={"held": self.service},
        )

    def load(self) -> ServerAccess | None:
        """Read the files of the identity, as the commands do."""
        return ServerAccess.load(self.directory, self.identity.name, self.world.seconds)

    def test_from_the_next_contact_on(self) -> None:
        """It turns those away who came before, and lets members in, not strangers."""
        early = self.connect(self.client("lan", None), "lan")
        self.membership.save(self.directory)
        self.access.change(self.name.system, public=False, web=True)
        self.world.advance(1.0)
        self.assertIsNotNone(early.lost_at)
        self.refusal(self.client("lan", None), "lan")
        for path in PATHS:
            self.connect(self.client(path, self.grant()), path)
        # The file alone keeps a server that runs closed no less.
        CloudMembership.remove(self.directory)
        self.access.change(self.name.system, public=False, web=False)
        self.world.advance(1.0)
        self.refusal(self.client("lan", None), "lan")

    def test_unchecked(self) -> None:
        """Without the file the server says that it cannot check."""
        (event,) = (e for e in self.cloud.events["server"] if e.event == "access")
        self.assertTrue(event.details["unchecked"])

    def test_another_cloud(self) -> None:
        """Bound to another cloud, it lets in whom that one lets in."""
        other = SigningKey.generate()
        attrs.evolve(self.membership, cloud_key=other.public_key).save(self.directory)
        self.access.change(self.name.system, public=False, web=True)
        self.world.advance(1.0)
        self.refusal(self.client("lan", self.grant()), "lan")
        table = AccessTable(other, self.world.seconds, self.world.random_bytes)
        table.load(self.name.system, public=False, web=False)
        held = self.connect(self.client("lan", self.grant(table=table)), "lan")
        self.membership.save(self.directory)
        self.access.change(self.name.system, public=False, web=False)
        self.world.advance(1.0)
        self.assertIsNotNone(held.lost_at)
        self.connect(self.client("lan", self.grant()), "lan")

    def test_damaged_file(self) -> None:
        """A file that cannot be read is told in the log, and changes nothing."""
        self.file.write_text("nonsense")
        self.access.change(self.name.system, public=False, web=True)
        self.world.advance(1.0)
        self.connect(self.client("lan", None), "lan")


@implementer(IStreamClientEndpoint)
@attrs.frozen
class UDTClient:
    """Leads to a server's UDP port without punching."""

    port: SharedUDPPort
    address: Address

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Connect."""
        return self.port.udt.connect(self.address, protocolFactory, 10.0)


class ThiefTests(AccessScenario):
    """Somebody copied what a member sent, and goes where he finds the server."""

    def setUp(self) -> None:
        super().setUp()
        self.stolen = self.grant()
        self.victim = self.client("udp", self.stolen)
        self.connect(self.victim, "udp")
        report = self.cloud.reports[-1]
        self.assertEqual(report.path, PathKind.UDP)
        (self.session,) = self.server._sessions._sessions

    def endpoint(self, path: str) -> IStreamClientEndpoint:
        """Lead straight to the server."""
        if path == "relay":
            # Even this is copied: what the mediator gave to the member for relays.
            grant = self.access.relay_grant(self.session, self.name)
            return RelayClientEndpoint(
                self.far.reactor,
                f"http://{self.cloud.relay_host.address}:{RELAY_PORT}",
                self.name,
                grant=grant,
            )
        if path == "udp":
            port = SharedUDPPort(self.near.reactor, interface=self.near.address)
            port.start()
            self.addCleanup(port.stop)
            address = Address(self.server_host.address, self.server.udp_port)
            return UDTClient(port, address)
        return TCP4ClientEndpoint(
            self.near.reactor, self.server_host.address, self.server.tcp_port
        )

    def test_without_the_key(self) -> None:
        """Session, grant, even the relay grant: without the key it is worthless."""
        before = len(self.service.made)
        for path in PATHS:
            for sign in (None, SigningKey.generate().sign):
                with self.subTest(path=path, signs=sign is not None):
                    opened = self.open(path, ClientGrant(self.stolen.encoded, sign))
                    self.assertRaises(AccessDenied, self.world.run_until, opened)
        self.assertEqual(len(self.service.made), before)

    def test_with_the_key(self) -> None:
        """The same with the key is let in: it is the key that was missing."""
        for path in PATHS:
            path_found = self.world.run_until(self.open(path, self.stolen))
            assert path_found is not None
            path_found.close()

    def test_replayed_possession(self) -> None:
        """What the member's client signed for one TLS connection opens no other."""
        proofs: list[bytes] = []

        def sign(data: bytes) -> bytes:
            assert self.stolen.sign is not None
            proofs.append(self.stolen.sign(data))
            return proofs[0]

        recorded = ClientGrant(self.stolen.encoded, sign)
        first = self.world.run_until(self.open("tcp", recorded))
        self.assertIsNotNone(first)
        again = self.open("tcp", recorded)
        self.assertRaises(AccessDenied, self.world.run_until, again)
        self.assertEqual(len(proofs), 2)

    def open(self, path: str, grant: ClientGrant) -> Deferred[Path]:
        """Open a path with a session that the server knows."""
        session = None if path == "lan" else self.session
        reactor = (self.far if path == "relay" else self.near).reactor
        opened = Path(
            reactor, PathKind(path), path, self.name, session, "thief", grant=grant
        )
        return open_path(opened, self.endpoint(path))


class _LyingAdmitter:
    """A mediator that lets everybody in, signing with a key of its own."""

    def __init__(self, key: SigningKey, clock: Callable[[], float]) -> None:
        self._key = key
        self._clock = clock
        self.changed: list[Callable[[uuid.UUID], None]] = []
        self.told = AccessState(is_bound=True, is_public=True, has_web=True)
        self.revoked: tuple[Revocation, ...] = ()

    def watch(self, changed: Callable[[uuid.UUID], None]) -> None:
        self.changed.append(changed)

    def check_registration(self, name: PeerName) -> None:
        pass

    def admit(self, target: PeerName, encoded: bytes | None) -> Admittance:
        now_ms = round(self._clock() * 1000)
        grant = AccessGrant(
            grant_id=uuid.uuid4(),
            system=target.system,
            issued_ms=now_ms,
            expires_ms=now_ms + 3_600_000,
        )
        forged = grant.encode(self._key.sign)
        return Admittance(target, encoded or forged, for_client=forged)

    def is_bound(self, system: uuid.UUID) -> bool:
        return True

    def relay_grant(self, session_id: uuid.UUID, server: PeerName) -> bytes:
        grant = RelayGrant.issue(session_id, server, self._clock())
        return grant.encode(self._key.sign)

    def state(self, system: uuid.UUID) -> tuple[AccessState, tuple[Revocation, ...]]:
        return self.told, self.revoked


class HostileCloudTests(AccessScenario):
    """Mediator and relay do everything for a stranger, but lack the cloud's key."""

    def make_cloud(self) -> None:
        """Make a mediator that lies, and a relay that joins whoever comes."""
        super().make_cloud()
        mediator = self.cloud.mediator.mediator
        self.liar = _LyingAdmitter(SigningKey.generate(), self.cloud.world.seconds)
        self.liar.watch(mediator.access_changed)
        mediator._admitter = self.liar
        mediator.sessions._admitter = self.liar
        self.cloud.world.run_until(self.cloud.relay.stopService(), 10.0)
        self.cloud.relay = RelayService(
            self.cloud.relay_host.reactor, [f"tcp:{RELAY_PORT}"]
        )
        self.cloud.relay.startService()

    def test_nobody_gets_in(self) -> None:
        """Not with what the mediator signed, announced as public, by any path."""
        for path in PATHS:
            with self.subTest(path=path):
                self.refusal(self.client(path, None), path)
        self.assertEqual(self.service.made, [])
        kinds = {e.event for e in self.cloud.events["server"]}
        self.assertIn("stream_refused", kinds)
        self.assertNotIn("stream_opened", kinds)

    def test_server_is_not_made_to_punch(self) -> None:
        """Of a client without a grant that holds, the server takes no notice."""
        self.refusal(self.client("udp", None), "udp")
        self.assertEqual(len(self.server._sessions), 0)

    def test_members_get_in(self) -> None:
        """The paths as such work: members are not kept out by it."""
        for path in ("lan", "tcp", "udp"):
            # It hands out its own grants in answers, which the relay path shows, too.
            self.liar.admit = lambda target, encoded: Admittance(target, encoded)  # type: ignore[method-assign]
            self.connect(self.client(path, self.grant()), path)

    def test_forged_session(self) -> None:
        """A session that the server was never told of opens nothing with a grant."""
        path = Path(
            self.far.reactor,
            PathKind.RELAY,
            "relay",
            self.name,
            uuid.uuid4(),
            "stranger",
            grant=self.grant(),
        )
        endpoint = RelayClientEndpoint(
            self.far.reactor,
            f"http://{self.cloud.relay_host.address}:{RELAY_PORT}",
            self.name,
        )
        opened = open_path(path, endpoint)
        self.assertRaises(SessionRefused, self.world.run_until, opened)

    def test_unbound_by_a_liar(self) -> None:
        """It can keep people out, and no longer than it lies."""
        self.liar.admit = lambda target, encoded: Admittance(target, encoded)  # type: ignore[method-assign]
        client = self.client("lan", self.grant())
        held = self.connect(client, "lan")
        self.liar.told = AccessState(is_bound=False)
        for changed in self.liar.changed:
            changed(self.name.system)
        self.world.advance(1.0)
        self.assertIsNotNone(held.lost_at)
        self.refusal(client, "lan")
        self.liar.told = AccessState(is_bound=True)
        self.world.advance(70.0)
        self.connect(client, "lan")


class RelayOfTheCloudTests(AccessScenario):
    """The relay joins nobody whom the mediator did not introduce."""

    def test_stranger_at_the_relay(self) -> None:
        """The server does not even hear of him."""
        endpoint = RelayClientEndpoint(
            self.far.reactor,
            f"http://{self.cloud.relay_host.address}:{RELAY_PORT}",
            self.name,
        )
        joining = endpoint.connect(Holding(self.world.seconds))
        error = self.assertRaises(RelayRefused, self.world.run_until, joining)
        self.assertEqual(error.status, 401)
        kinds = {e.event for e in self.cloud.events["server"]}
        self.assertNotIn("stream_refused", kinds)
