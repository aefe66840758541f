"""What a server checks by itself of those who come."""

from __future__ import annotations

import json
import stat
import uuid
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import AccessDenied, ConfigurationError
from dwcloud.net.signing import SigningKey
from dwcloud.peer.server_access import STATE_FILE, ServerAccess
from dwcloud.protocol.grants import (
    NOBODY,
    AccessState,
    ClientGrant,
    GrantKind,
    Revocation,
)
from dwcloud.protocol.mediation.messages import AccessChanged, ConnectionRequested
from dwcloud.protocol.mediation.parameters import ConnectionParameters
from dwcloud.protocol.names import PeerName

from .cloud_grants import ANN, BOB, TestCloud

NOW = 1_800_000_000.0
NAME = PeerName(uuid.UUID(int=1), uuid.UUID(int=2))
SESSION = uuid.UUID(int=5)
BINDING = b"b" * 32
BOUND = AccessState(is_bound=True)
PUBLIC = AccessState(is_bound=True, is_public=True)
WEB = AccessState(is_bound=True, has_web=True)
UNBOUND = AccessState(is_bound=False)


class AccessCase(SynchronousTestCase):
    """A server of a bound system."""

    def setUp(self) -> None:
        self.now = NOW
        self.cloud = TestCloud()
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.cloud.membership.save(self.directory)
        self.access = self.load()
        self.cut: list[str] = []

    def load(self) -> ServerAccess:
        """Start the server, or start it again."""
        access = ServerAccess.load(self.directory, NAME, lambda: self.now)
        assert access is not None
        return access

    def grant(self, **values: Any) -> ClientGrant:
        """Give Ann a grant for the system, or another one."""
        return self.cloud.grant(NAME, self.now, **values)

    def everybody(self) -> bytes:
        """Make a grant for everybody."""
        return self.cloud.sign(NAME, self.now, account=NOBODY)

    def change(self, state: AccessState = BOUND, *revocations: Revocation) -> int:
        """Let the mediator say something."""
        return self.access.change(AccessChanged(state=state, revocations=revocations))

    def open(self, grant: ClientGrant, **changes: Any) -> None:
        """Open a path as a client does, but for ``changes``."""
        session, binding = SESSION, BINDING
        proven = changes.pop("proven", (session, binding))
        self.access.check_path(
            grant.encoded,
            changes.pop("possession", grant.possession(*proven)),
            session,
            binding,
            **changes,
        )

    def refusal(self, grant: ClientGrant, **changes: Any) -> str:
        """Return why a path is refused."""
        return str(self.assertRaises(AccessDenied, self.open, grant, **changes))

    def stream(self, name: str, grant: ClientGrant) -> None:
        """Let a stream run; its end is noted."""
        admitted = self.access.check_path(
            grant.encoded, grant.possession(SESSION, BINDING), SESSION, BINDING
        )
        self.access.add_stream(
            name,
            admitted,
            lambda why: (
                self.cut.append(name) or self.access.remove_stream(name)  # type: ignore[func-returns-value]
            ),
        )


class PathTests(AccessCase):
    """Who is let in by a path."""

    def test_member(self) -> None:
        """A grant under the pinned key, and the key that it names."""
        self.open(self.grant())
        self.open(self.grant(server=NAME.server))

    def test_without_grant(self) -> None:
        """Who has none is told how to get one."""
        self.assertIn("dwcloud account login", self.refusal(ClientGrant(b"")))

    def test_stolen_grant(self) -> None:
        """Without the client's key, or for another path, it is worthless."""
        grant, thief = self.grant(), SigningKey.generate()
        stolen = ClientGrant(grant.encoded, thief.sign)
        for changes in (
            {"possession": b""},
            {"possession": b"x" * 64},
            {"proven": (SESSION, b"another connection of TLS")},
            {"proven": (uuid.UUID(int=6), BINDING)},
            {"proven": (None, BINDING)},
        ):
            with self.subTest(changes=changes):
                self.assertIn("somebody else's", self.refusal(grant, **changes))
        self.assertIn("somebody else's", self.refusal(stolen))

    def test_another_cloud(self) -> None:
        """What another cloud signs is nothing here."""
        foreign = TestCloud().grant(NAME, NOW)
        self.assertIn("not signed by this cloud", self.refusal(foreign))

    def test_not_for_this_server(self) -> None:
        """For another system, another server, or of another time."""
        self.assertIn("another server", self.refusal(self.grant(system=BOB)))
        self.assertIn("another server", self.refusal(self.grant(server=BOB)))
        old = self.grant()
        self.now += 2 * 3600
        self.assertIn("expired", self.refusal(old))

    def test_public(self) -> None:
        """A grant for everybody is good while the mediator says so, and not before."""
        everybody = ClientGrant(self.everybody())
        self.assertIn("not open to everybody", self.refusal(everybody))
        self.change(PUBLIC)
        self.open(everybody)
        self.change(BOUND)
        self.refusal(everybody)

    def test_public_says_a_liar(self) -> None:
        """A mediator without the cloud's key lets nobody in by saying 'public'."""
        self.change(PUBLIC)
        forged = TestCloud().sign(NAME, NOW, account=NOBODY)
        for grant in (b"", forged):
            self.refusal(ClientGrant(grant))

    def test_gateway(self) -> None:
        """A gateway's grant is good for gateways, where the owner wants them."""
        gateway = self.grant(kind=GrantKind.GATEWAY)
        self.refusal(gateway, kind=GrantKind.GATEWAY)
        self.change(WEB)
        self.open(gateway, kind=GrantKind.GATEWAY)
        self.assertIn("of no use", self.refusal(gateway))
        self.assertIn("of no use", self.refusal(self.grant(), kind=GrantKind.GATEWAY))

    def test_used_once_without_tls(self) -> None:
        """In the clear, what an onlooker copies does not open a second path."""
        grant = self.grant()
        self.open(grant, in_tls=False)
        self.assertIn("used before", self.refusal(grant, in_tls=False))
        self.open(grant)

    @given(st.binary(max_size=250), st.binary(max_size=70))
    def test_any_bytes_survive(self, grant: bytes, possession: bytes) -> None:
        """Whatever is presented is refused in words."""
        self.refusal(ClientGrant(grant), possession=possession)
        good = self.grant()
        self.refusal(good, possession=possession)


class RequestTests(AccessCase):
    """Of whom the mediator tells."""

    def request(self, grant: bytes | None) -> ConnectionRequested:
        """Make what the mediator says."""
        return ConnectionRequested(
            session_id=SESSION,
            token=bytes(16),
            client_name="c",
            parameters=ConnectionParameters(),
            grant=grant,
        )

    def test_checked(self) -> None:
        """The mediator's word alone is not enough."""
        self.access.check_request(self.request(self.grant().encoded))
        gateway = self.grant(kind=GrantKind.GATEWAY).encoded
        for grant in (None, b"", TestCloud().sign(NAME, NOW), gateway):
            self.assertRaises(
                AccessDenied, self.access.check_request, self.request(grant)
            )


class RevocationTests(AccessCase):
    """What the mediator says ends access, at once."""

    def test_cut(self) -> None:
        """The streams of a removed account end, those of others go on."""
        mine, others = self.grant(), self.grant(account=BOB)
        self.stream("mine", mine)
        self.stream("others", others)
        self.now += 60
        revocation = Revocation(ANN, round(self.now * 1000))
        self.assertEqual(self.change(BOUND, revocation), 1)
        self.assertEqual(self.cut, ["mine"])
        self.assertIn("taken away", self.refusal(mine))
        self.open(others)
        self.assertEqual(self.change(BOUND, revocation), 0)

    def test_granted_again(self) -> None:
        """Who gets a role again gets in with a new grant."""
        self.change(BOUND, Revocation(ANN, round(self.now * 1000)))
        self.now += 1
        self.open(self.grant())

    def test_unbound(self) -> None:
        """Everybody is out, and stays so until somebody owns the system."""
        self.stream("mine", self.grant())
        self.change(UNBOUND)
        self.assertEqual(self.cut, ["mine"])
        self.assertIn("no account owns", self.refusal(self.grant()))
        self.change(BOUND)
        self.open(self.grant())

    def test_private_again(self) -> None:
        """Those who came because the system was public are out."""
        self.change(PUBLIC)
        self.stream("anybody", ClientGrant(self.everybody()))
        self.stream("mine", self.grant())
        self.change(BOUND)
        self.assertEqual(self.cut, ["anybody"])

    def test_of_a_time_to_come(self) -> None:
        """No mediator keeps people out by one word for longer than a day."""
        self.change(BOUND, Revocation(ANN, 2**64 - 1))
        self.refusal(self.grant())
        self.now += 24 * 3600 + 1
        self.open(self.grant())

    def test_slow_clock(self) -> None:
        """A server whose clock is behind does not let in later who was kept out."""
        self.now += 300
        mine = self.grant()
        revocation = Revocation(ANN, round(self.now * 1000))
        self.now -= 300
        self.change(BOUND, revocation)
        self.assertIn("future", self.refusal(mine))
        self.now += 300
        self.assertIn("taken away", self.refusal(mine))

    def test_out_of_touch_for_a_day(self) -> None:
        """Who missed revocations cannot tell whose access was taken away meanwhile."""
        self.change()
        self.stream("old", self.grant(expires_ms=round((NOW + 80_000) * 1000)))
        self.access.lost_touch()
        self.now += 23 * 3600
        self.access.lost_touch()
        self.change()
        self.assertEqual(self.cut, [])
        self.access.lost_touch()
        self.now += 25 * 3600
        self.stream("new", self.grant())
        self.change()
        self.assertEqual(self.cut, ["old"])
        self.assertEqual(len(self.access), 1)

    def test_in_touch_for_days(self) -> None:
        """A stream may outlive its grant by far, as long as nobody ends it."""
        self.change()
        self.stream("old", self.grant())
        for _ in range(5):
            self.now += 20 * 3600
            self.change()
        self.assertEqual(self.cut, [])


class FileTests(AccessCase):
    """What outlives a restart of the server."""

    @property
    def file(self) -> Path:
        """Where it is kept."""
        return self.directory / STATE_FILE

    def test_kept(self) -> None:
        """A restart without contact to the mediator lets nobody in again."""
        mine = self.grant()
        self.change(WEB, Revocation(ANN, round(self.now * 1000)))
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        self.access = self.load()
        self.assertIn("taken away", self.refusal(mine))
        self.open(
            self.grant(account=BOB, kind=GrantKind.GATEWAY), kind=GrantKind.GATEWAY
        )
        self.change(UNBOUND)
        self.access = self.load()
        self.assertIn("no account owns", self.refusal(self.grant()))

    def test_written_when_something_changed(self) -> None:
        """The mediator says the same at each contact; flash memory wears out."""
        self.change()
        self.assertFalse(self.file.exists())
        self.change(WEB)
        self.file.unlink()
        self.change(WEB)
        self.assertFalse(self.file.exists())

    def test_old_revocations_go(self) -> None:
        """Those of expired grants are not kept."""
        self.change(BOUND, Revocation(ANN, round(self.now * 1000)))
        self.now += 25 * 3600
        self.change()
        self.assertEqual(json.loads(self.file.read_text())["revocations"], [])

    def test_damaged(self) -> None:
        """Whom a damaged file kept out is not let in; members fetch new grants."""
        mine = self.grant()
        for data in (b"", b"[]", b"{}", b'{"bound": true}', b"\xff", b"[" * 100_000):
            with self.subTest(data=data[:20]):
                self.file.write_bytes(data)
                self.access = self.load()
                self.assertIn("taken away", self.refusal(mine))
        self.now += 1
        self.open(self.grant())

    @given(st.binary(max_size=100))
    def test_any_bytes_survive(self, data: bytes) -> None:
        """Whatever is in the file, the server starts, and lets no stranger in."""
        self.file.write_bytes(data)
        self.access = self.load()
        self.refusal(ClientGrant(b""))

    def test_nowhere_to_write(self) -> None:
        """What cannot be kept holds all the same, and is told in the log."""
        self.file.mkdir()
        self.assertRaises(ConfigurationError, self.load)
        mine = self.grant()
        self.change(BOUND, Revocation(ANN, round(self.now * 1000)))
        self.refusal(mine)

    def test_not_bound(self) -> None:
        """Without cloud.json there is nothing to check."""
        other = Path(self.mktemp())
        self.assertIsNone(ServerAccess.load(other, NAME, lambda: self.now))
