"""Connect and gateway grants: read back, checked, and never forged."""

from __future__ import annotations

import hashlib
import hmac
import uuid

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.grants import AccessGrant, GrantKind, Role, grant_kind
from dwcloud.protocol.grants.access import LONGEST_LIFE, MAX_GRANT
from dwcloud.protocol.grants.signatures import CLOCK_TOLERANCE
from dwcloud.protocol.names import PeerName

NOW = 1_800_000_000.0
SYSTEM, SERVER, ACCOUNT = (uuid.UUID(int=n) for n in (1, 2, 3))
NAME = PeerName(SYSTEM, SERVER)


def sign(data: bytes) -> bytes:
    """Sign with the test's own key."""
    return hmac.new(b"the cloud", data, hashlib.sha512).digest()


def verify(signature: bytes, data: bytes) -> bool:
    """Check such a signature."""
    return hmac.compare_digest(signature, sign(data))


def grant_for(**changes: object) -> AccessGrant:
    """Make a grant of an account for one system, good for an hour from now."""
    grant = AccessGrant(
        grant_id=uuid.UUID(int=9),
        system=SYSTEM,
        account=ACCOUNT,
        role=Role.VIEWER,
        issued_ms=round(NOW * 1000),
        expires_ms=round((NOW + 3600) * 1000),
        client_key=b"k" * 32,
        account_name="ann",
    )
    return attrs.evolve(grant, **changes)  # type: ignore[arg-type]


_MS = st.integers(0, 2**64 - 1)
_SOMEBODY = st.uuids().filter(lambda guid: guid.int)
GRANTS = st.builds(
    AccessGrant,
    kind=st.sampled_from([GrantKind.CONNECT, GrantKind.GATEWAY]),
    grant_id=st.uuids(),
    system=st.uuids(),
    server=st.none() | _SOMEBODY,
    account=st.uuids(),
    role=st.sampled_from(Role),
    issued_ms=_MS,
    expires_ms=_MS,
    client_key=st.just(b"") | st.binary(min_size=32, max_size=32).filter(any),
    account_name=st.text(max_size=15).filter(str.isprintable),
)


class FormatTests(SynchronousTestCase):
    """What is written can be read, and nothing else can."""

    @given(GRANTS)
    def test_round_trip(self, grant: AccessGrant) -> None:
        """What the cloud signs is what a server reads."""
        encoded = grant.encode(sign)
        self.assertEqual(AccessGrant.decode(encoded, verify), grant)
        self.assertEqual(grant_kind(encoded), grant.kind)
        self.assertLessEqual(len(encoded), MAX_GRANT)

    @given(GRANTS, st.data())
    def test_any_flipped_bit_is_refused(
        self, grant: AccessGrant, data: st.DataObject
    ) -> None:
        """One bit that is another makes a grant worthless, wherever it is."""
        encoded = bytearray(grant.encode(sign))
        bit = data.draw(st.integers(0, len(encoded) * 8 - 1))
        encoded[bit // 8] ^= 1 << bit % 8
        error = self.assertRaises(
            RemoteProtocolError, AccessGrant.decode, bytes(encoded), verify
        )
        self.assertEqual(error.code, 403)

    @given(GRANTS, st.data())
    def test_any_other_length_is_refused(
        self, grant: AccessGrant, data: st.DataObject
    ) -> None:
        """A grant that is cut, or has something behind it, is worthless."""
        encoded = grant.encode(sign)
        length = data.draw(st.integers(0, len(encoded) - 1))
        for wrong in (encoded[:length], encoded + bytes(1)):
            self.assertRaises(RemoteProtocolError, AccessGrant.decode, wrong, verify)

    @given(st.binary(max_size=MAX_GRANT + 10))
    def test_any_bytes_survive(self, data: bytes) -> None:
        """Whatever comes is refused in words, even by who believes any signature."""
        self.assertRaises(RemoteProtocolError, AccessGrant.decode, data, verify)
        grant_kind(data)
        try:
            grant = AccessGrant.decode(data, lambda signature, body: True)
        except RemoteProtocolError as error:
            self.assertEqual(error.code, 403)
        else:
            self.assertEqual(len(grant.encode(sign)), len(data))

    def test_other_versions_and_kinds_are_refused(self) -> None:
        """What is signed but of another form is no access grant."""
        body = grant_for().encode(sign)[:-64]
        for changed in (b"\2" + body[1:], body[:1] + b"\3" + body[2:]):
            signed = changed + sign(b"dwcloud grant 1\0" + changed)
            error = self.assertRaises(
                RemoteProtocolError, AccessGrant.decode, signed, verify
            )
            self.assertIn("no grant known here", str(error))

    def test_what_does_not_fit_is_not_signed(self) -> None:
        """The cloud does not sign what nobody could read."""
        for changes in (
            {"account_name": "n" * 64},
            {"account_name": "a\nb"},
            {"client_key": b"short"},
            {"kind": GrantKind.RELAY},
        ):
            with self.subTest(changes=changes):
                grant = grant_for(**changes)
                self.assertRaises(LocalProtocolError, grant.encode, sign)
        self.assertRaises(LocalProtocolError, grant_for().encode, lambda data: b"short")


class CheckTests(SynchronousTestCase):
    """For whom a grant is good, and when."""

    def refusal(
        self, grant: AccessGrant, server: PeerName = NAME, now: float = NOW
    ) -> str:
        """Return why a grant is refused."""
        error = self.assertRaises(RemoteProtocolError, grant.check, server, now=now)
        self.assertEqual(error.code, 403)
        return str(error)

    def test_all_servers_of_its_system(self) -> None:
        """A grant without a server admits to any of its system, and to no other."""
        grant = grant_for()
        grant.check(NAME, now=NOW)
        grant.check(PeerName(SYSTEM, uuid.UUID(int=7)), now=NOW)
        grant.check(PeerName(SYSTEM), now=NOW)
        self.assertIn("another server", self.refusal(grant, PeerName(SERVER, SYSTEM)))

    def test_one_server_only(self) -> None:
        """A grant that names a server admits to no other one of the system."""
        grant = grant_for(server=SERVER)
        grant.check(NAME, now=NOW)
        for other in (PeerName(SYSTEM, uuid.UUID(int=7)), PeerName(SYSTEM)):
            self.assertIn("another server", self.refusal(grant, other))

    def test_its_time(self) -> None:
        """A grant is good from its issue to its expiry, give or take a slow clock."""
        grant = grant_for()
        grant.check(NAME, now=NOW - CLOCK_TOLERANCE)
        grant.check(NAME, now=NOW + 3600 + CLOCK_TOLERANCE - 1)
        early, late = NOW - CLOCK_TOLERANCE - 1, NOW + 3600 + CLOCK_TOLERANCE
        self.assertIn("future", self.refusal(grant, now=early))
        self.assertIn("expired", self.refusal(grant, now=late))

    def test_no_longer_than_a_day(self) -> None:
        """A grant that would outlive revocations is worthless from the first moment."""
        start = round(NOW * 1000)
        longest = start + round(LONGEST_LIFE * 1000)
        grant_for(expires_ms=longest).check(NAME, now=NOW)
        for expires in (longest + 1, start - 1):
            self.assertIn("longer", self.refusal(grant_for(expires_ms=expires)))
