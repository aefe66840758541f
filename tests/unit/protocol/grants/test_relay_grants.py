"""Relay grants, and how HTTP carries them."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.grants import (
    AccessGrant,
    ClientGrant,
    RelayGrant,
    possession_text,
)
from dwcloud.protocol.grants.relay import (
    RELAY_GRANT_BYTES,
    authorization_of,
    grant_of_authorization,
)
from dwcloud.protocol.grants.signatures import CLOCK_TOLERANCE
from dwcloud.protocol.names import PeerName

from .test_access_grants import NAME, NOW, SYSTEM, grant_for, sign, verify

SESSION = uuid.UUID(int=5)


class RelayGrantTests(SynchronousTestCase):
    """One session, one server, one minute."""

    def setUp(self) -> None:
        self.grant = RelayGrant.issue(SESSION, NAME, NOW)
        self.encoded = self.grant.encode(sign)

    def test_round_trip(self) -> None:
        """What the mediator signs is what a relay reads."""
        self.assertEqual(len(self.encoded), RELAY_GRANT_BYTES)
        self.assertEqual(RelayGrant.decode(self.encoded, verify), self.grant)

    @given(st.integers(0, RELAY_GRANT_BYTES * 8 - 1))
    def test_any_flipped_bit_is_refused(self, bit: int) -> None:
        """One bit that is another makes it worthless."""
        changed = bytearray(self.encoded)
        changed[bit // 8] ^= 1 << bit % 8
        self.assertRaises(
            RemoteProtocolError, RelayGrant.decode, bytes(changed), verify
        )

    @given(st.binary(max_size=RELAY_GRANT_BYTES + 10))
    def test_any_bytes_survive(self, data: bytes) -> None:
        """Whatever comes is refused in words."""
        error = self.assertRaises(RemoteProtocolError, RelayGrant.decode, data, verify)
        self.assertEqual(error.code, 403)

    def test_an_access_grant_is_none(self) -> None:
        """One kind of grant does not pass for the other, though both are signed."""
        access = grant_for().encode(sign)
        self.assertRaises(RemoteProtocolError, RelayGrant.decode, access, verify)
        self.assertRaises(RemoteProtocolError, AccessGrant.decode, self.encoded, verify)

    def test_for_its_server_in_its_minute(self) -> None:
        """Another server, or a minute later, and it is worthless."""
        self.grant.check(NAME, now=NOW)
        for target, now in (
            (PeerName(SYSTEM), NOW),
            (PeerName(SYSTEM, uuid.UUID(int=77)), NOW),
            (NAME, NOW + 60 + CLOCK_TOLERANCE),
            (NAME, NOW - 1 - CLOCK_TOLERANCE),
        ):
            with self.subTest(target=target, now=now):
                self.assertRaises(
                    RemoteProtocolError, self.grant.check, target, now=now
                )

    def test_needs_a_server(self) -> None:
        """None is signed for all servers of a system."""
        grant = RelayGrant.issue(SESSION, PeerName(SYSTEM), NOW)
        self.assertRaises(LocalProtocolError, grant.encode, sign)


class AuthorizationTests(SynchronousTestCase):
    """The header field of HTTP."""

    @given(st.binary(max_size=300))
    def test_round_trip(self, grant: bytes) -> None:
        """What a client writes a relay reads, whatever the case of the scheme."""
        field = authorization_of(grant)
        self.assertEqual(grant_of_authorization(field), grant)
        self.assertEqual(
            grant_of_authorization(field.replace("DWCloud-Grant", "DWCLOUD-grant")),
            grant,
        )

    @given(st.text())
    def test_any_text_survives(self, field: str) -> None:
        """Whatever else is there gets 401, or 403 where it claims to be a grant."""
        for text in (field, f"DWCloud-Grant {field}"):
            try:
                grant_of_authorization(text)
            except RemoteProtocolError as error:
                self.assertIn(error.code, (401, 403))


class PossessionTests(SynchronousTestCase):
    """What a client signs to use a grant."""

    @given(
        st.none() | st.uuids().filter(lambda guid: guid.int),
        st.none() | st.uuids().filter(lambda guid: guid.int),
        st.binary(max_size=48),
        st.binary(max_size=48),
    )
    def test_belongs_to_one_path(
        self,
        session: uuid.UUID | None,
        other_session: uuid.UUID | None,
        binding: bytes,
        other_binding: bytes,
    ) -> None:
        """Another session or another connection needs another signature."""
        same = (session, binding) == (other_session, other_binding)
        texts = (
            possession_text(session, binding),
            possession_text(other_session, other_binding),
        )
        self.assertEqual(texts[0] == texts[1], same)

    def test_grant_for_everybody_needs_none(self) -> None:
        """Without a key there is nothing to prove; with one, its signature."""
        self.assertEqual(ClientGrant(b"g").possession(SESSION, b"b"), b"")
        held = ClientGrant(b"g", sign)
        text = possession_text(SESSION, b"b")
        self.assertEqual(held.possession(SESSION, b"b"), sign(text))
