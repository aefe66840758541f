"""Who is admitted to which system, decided in memory."""

from __future__ import annotations

import uuid
from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.access import AccessTable, IssuedGrant, NotBound, Revoked
from dwcloud.accounts.changes import (
    AccessSnapshot,
    RoleGranted,
    RoleRevoked,
    SystemState,
    SystemUnbound,
)
from dwcloud.accounts.roles import Role as AccountRole
from dwcloud.net.signing import SigningKey, verifier
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.grants import (
    NOBODY,
    AccessGrant,
    GrantKind,
    RelayGrant,
    Revocation,
    Role,
)
from dwcloud.protocol.names import PeerName

NOW = 1_800_000_000.0
SYSTEM, OTHER_SYSTEM, SERVER, OTHER_SERVER = (uuid.UUID(int=n) for n in (1, 2, 3, 4))
ANN, BOB = uuid.UUID(int=10), uuid.UUID(int=11)
NAME = PeerName(SYSTEM, SERVER)
KEY = b"k" * 32


class AccessCase(SynchronousTestCase):
    """A cloud with one private system, whose member Ann is."""

    def setUp(self) -> None:
        self.now = NOW
        self.key = SigningKey.generate()
        numbers = count(1)
        self.table = AccessTable(
            self.key, lambda: self.now, lambda size: next(numbers).to_bytes(size, "big")
        )
        self.table.load(SYSTEM, public=False, web=False)
        self.told: list[uuid.UUID] = []
        self.table.watch(self.told.append)

    def issue(
        self,
        account: uuid.UUID = ANN,
        *,
        server: uuid.UUID | None = None,
        asked_ms: int | None = None,
        kind: GrantKind = GrantKind.CONNECT,
    ) -> IssuedGrant:
        """Make a grant as the API does."""
        return self.table.issue(
            SYSTEM,
            account,
            Role.VIEWER,
            KEY,
            account_name="ann",
            asked_ms=self.table.now_ms() if asked_ms is None else asked_ms,
            server=server,
            kind=kind,
        )

    def read(self, encoded: bytes | None) -> AccessGrant:
        """Read a grant with the cloud's public key."""
        assert encoded is not None
        return AccessGrant.decode(encoded, verifier(self.table.cloud_key))


class AdmissionTests(AccessCase):
    """Members are admitted, others are not."""

    def test_member(self) -> None:
        """A member's grant is passed on to the server; the client gets no other."""
        issued = self.issue()
        grant = self.read(issued.encoded)
        self.assertEqual((grant.account, grant.client_key), (ANN, KEY))
        self.assertEqual(issued.expires, NOW + 12 * 3600)
        for target in (NAME, PeerName(SYSTEM)):
            admitted = self.table.admit(target, issued.encoded)
            assert admitted is not None
            self.assertEqual(admitted.target, target)
            self.assertEqual(admitted.for_server, issued.encoded)
            self.assertIsNone(admitted.for_client)

    def test_strangers(self) -> None:
        """No grant, one for elsewhere, an old one, another cloud's: nothing."""
        issued = self.issue()
        elsewhere = AccessTable(
            SigningKey.generate(), lambda: self.now, lambda size: bytes(size)
        )
        elsewhere.load(SYSTEM, public=False, web=False)
        forged = elsewhere.issue(
            SYSTEM,
            ANN,
            Role.OWNER,
            KEY,
            account_name="ann",
            asked_ms=self.table.now_ms(),
        )
        self.table.load(OTHER_SYSTEM, public=False, web=False)
        unknown = PeerName(uuid.UUID(int=99))
        for target, encoded in (
            (NAME, None),
            (NAME, b""),
            (NAME, forged.encoded),
            (PeerName(OTHER_SYSTEM), issued.encoded),
            (unknown, issued.encoded),
            (unknown, None),
            (NAME, self.table.relay_grant(uuid.uuid4(), NAME)),
        ):
            with self.subTest(target=target):
                self.assertIsNone(self.table.admit(target, encoded))
        self.now += 13 * 3600
        self.assertIsNone(self.table.admit(NAME, issued.encoded))

    def test_empty_table(self) -> None:
        """A cloud without a single system admits nobody, and is no absent cloud."""
        empty = AccessTable(self.key, lambda: self.now, lambda size: bytes(size))
        self.assertTrue(empty)
        self.assertIsNone(empty.admit(NAME, None))

    @given(st.binary(max_size=300))
    def test_any_bytes_survive(self, encoded: bytes) -> None:
        """Whatever is presented as a grant is none."""
        self.assertIsNone(self.table.admit(NAME, encoded))

    def test_grant_for_one_server(self) -> None:
        """It opens this server, also where only the system is named, and no other."""
        encoded = self.issue(server=SERVER).encoded
        for target in (NAME, PeerName(SYSTEM)):
            admitted = self.table.admit(target, encoded)
            assert admitted is not None
            self.assertEqual(admitted.target, NAME)
        other = PeerName(SYSTEM, OTHER_SERVER)
        self.assertIsNone(self.table.admit(other, encoded))

    def test_gateway_is_no_client(self) -> None:
        """A relay's grant for browsers is not one to be introduced with."""
        self.table.change(SYSTEM, public=False, web=True)
        encoded = self.issue(kind=GrantKind.GATEWAY).encoded
        self.assertIsNone(self.table.admit(NAME, encoded))

    def test_public(self) -> None:
        """To a public system whoever comes gets a grant, without a key, for an hour."""
        self.table.change(SYSTEM, public=True, web=False)
        for encoded in (None, b"nonsense"):
            admitted = self.table.admit(NAME, encoded)
            assert admitted is not None
            self.assertEqual(admitted.for_client, admitted.for_server)
            grant = self.read(admitted.for_client)
            self.assertTrue(grant.is_for_everybody)
            self.assertEqual(grant.account, NOBODY)
            grant.check(NAME, now=self.now + 3599)
        # And is not let in by it any more when the system is private again.
        everybody = admitted.for_client
        self.table.change(SYSTEM, public=False, web=False)
        self.assertIsNone(self.table.admit(NAME, everybody))

    def test_member_of_a_public_system(self) -> None:
        """A member comes under his own name there, too."""
        self.table.change(SYSTEM, public=True, web=False)
        encoded = self.issue().encoded
        admitted = self.table.admit(NAME, encoded)
        assert admitted is not None
        self.assertEqual(admitted.for_server, encoded)

    def test_relay_grant(self) -> None:
        """A relay grant is for the session and the server."""
        session = uuid.uuid4()
        encoded = self.table.relay_grant(session, NAME)
        grant = RelayGrant.decode(encoded, verifier(self.table.cloud_key))
        grant.check(NAME, now=NOW)
        self.assertEqual(grant.session_id, session)


class StoreTests(AccessCase):
    """What the store of accounts tells."""

    def test_changes(self) -> None:
        """Bound, public, role taken away, unbound: each is acted on, each is told."""
        for change, expected in (
            (SystemState(OTHER_SYSTEM, False, True), (True, False, True, 1)),
            (RoleGranted(OTHER_SYSTEM, ANN, AccountRole.VIEWER, 5), None),
            (SystemState(OTHER_SYSTEM, True, True), (True, True, True, 1)),
            (RoleRevoked(OTHER_SYSTEM, ANN, 5), (True, True, True, 2)),
            (
                RoleRevoked(OTHER_SYSTEM, ANN, self.table.now_ms()),
                (True, True, True, 2),
            ),
            (SystemUnbound(OTHER_SYSTEM), (False, False, False, 0)),
        ):
            with self.subTest(change=change):
                self.told.clear()
                self.table.apply(change)
                state, revocations = self.table.state(OTHER_SYSTEM)
                flags = state.is_bound, state.is_public, state.has_web
                if expected is None:
                    self.assertEqual(self.told, [])
                else:
                    self.assertEqual((*flags, len(revocations)), expected)
                    self.assertEqual(self.told, [OTHER_SYSTEM])

    def test_role_read_while_it_was_taken_away(self) -> None:
        """A grant that was asked for before the store had finished is worthless."""
        began = self.table.now_ms()
        self.now += 0.2
        mine = self.issue()
        asked = self.table.now_ms()
        self.now += 0.2
        self.table.apply(RoleRevoked(SYSTEM, ANN, began))
        self.assertIsNone(self.table.admit(NAME, mine.encoded))
        self.assertRaises(Revoked, self.issue, asked_ms=asked)

    def test_snapshot(self) -> None:
        """A mediator that starts again knows what it knew, and tells nobody."""
        mine = self.issue()
        again = AccessTable(self.key, lambda: self.now, lambda size: bytes(size))
        again.watch(self.told.append)
        now = self.table.now_ms()
        again.load_snapshot(
            AccessSnapshot(
                (
                    SystemState(SYSTEM, False, False),
                    SystemState(OTHER_SYSTEM, True, False),
                ),
                (RoleRevoked(SYSTEM, ANN, now), RoleRevoked(uuid.uuid4(), ANN, now)),
            )
        )
        self.assertIsNone(again.admit(NAME, mine.encoded))
        self.now += 1
        slow = self.issue()
        self.assertIsNone(again.admit(NAME, slow.encoded))
        self.now += 2
        self.assertIsNotNone(again.admit(NAME, self.issue().encoded))
        self.assertIsNotNone(again.admit(NAME, self.issue(BOB).encoded))
        self.assertTrue(again.state(OTHER_SYSTEM)[0].is_public)
        self.assertEqual((again.bound_systems, self.told), (2, []))


class RevocationTests(AccessCase):
    """What was granted before is worth nothing after."""

    def test_removed_member(self) -> None:
        """His grants end, a later one counts; other members notice nothing."""
        mine, others = self.issue(), self.issue(BOB)
        self.now += 60
        self.table.revoke(SYSTEM, ANN, self.table.now_ms())
        self.assertIsNone(self.table.admit(NAME, mine.encoded))
        self.assertIsNotNone(self.table.admit(NAME, others.encoded))
        self.assertEqual(self.told, [SYSTEM])
        self.now += 1
        again = self.issue()
        self.assertIsNotNone(self.table.admit(NAME, again.encoded))

    def test_not_overtaken(self) -> None:
        """A role that was looked up before its end gives no grant after it."""
        asked = self.table.now_ms()
        self.now += 0.5
        self.table.revoke(SYSTEM, ANN, self.table.now_ms())
        self.now += 0.5
        self.assertRaises(Revoked, self.issue, asked_ms=asked)

    def test_told_to_servers(self) -> None:
        """State and revocations of the last day are what servers are told."""
        self.table.revoke(SYSTEM, ANN, self.table.now_ms())
        state, revocations = self.table.state(SYSTEM)
        self.assertTrue(state.is_bound)
        self.assertFalse(state.is_public or state.has_web)
        self.assertEqual(revocations, (Revocation(ANN, self.table.now_ms()),))
        self.now += 25 * 3600
        self.assertEqual(self.table.state(SYSTEM)[1], ())

    def test_loaded(self) -> None:
        """A mediator that starts again forgets no revocation, and tells nobody."""
        mine = self.issue()
        self.table.load_revocation(SYSTEM, ANN, self.table.now_ms())
        self.table.load_revocation(OTHER_SYSTEM, ANN, self.table.now_ms())
        self.assertIsNone(self.table.admit(NAME, mine.encoded))
        self.assertEqual(self.told, [])

    def test_unbound(self) -> None:
        """Nobody is admitted, and no server may register."""
        mine = self.issue()
        self.table.check_registration(NAME)
        self.table.unbind(SYSTEM)
        self.table.unbind(SYSTEM)
        self.assertEqual(self.told, [SYSTEM])
        self.assertFalse(self.table.is_bound(SYSTEM))
        self.assertIsNone(self.table.admit(NAME, mine.encoded))
        self.assertFalse(self.table.state(SYSTEM)[0].is_bound)
        self.assertRaises(NotBound, self.issue)
        error = self.assertRaises(
            RemoteProtocolError, self.table.check_registration, NAME
        )
        self.assertEqual(error.code, 403)
        self.assertIn("dwcloud system bind", str(error))
        self.table.revoke(SYSTEM, ANN, self.table.now_ms())
        self.assertEqual(self.told, [SYSTEM])

    def test_bound_again(self) -> None:
        """To a new owner's system grants of the old one's time open nothing."""
        mine = self.issue()
        self.table.unbind(SYSTEM)
        self.now += 1
        self.table.bind(SYSTEM)
        self.assertIsNone(self.table.admit(NAME, mine.encoded))
        self.assertIsNotNone(self.table.admit(NAME, self.issue().encoded))
        self.assertEqual(self.table.bound_systems, 1)

    def test_only_changes_are_told(self) -> None:
        """A change that changes nothing is not worth a word."""
        self.table.change(SYSTEM, public=False, web=False)
        self.assertEqual(self.told, [])
        self.table.change(SYSTEM, public=False, web=True)
        self.assertEqual(self.told, [SYSTEM])
        self.assertTrue(self.table.state(SYSTEM)[0].has_web)
        self.assertRaises(
            NotBound, self.table.change, OTHER_SYSTEM, public=True, web=True
        )
