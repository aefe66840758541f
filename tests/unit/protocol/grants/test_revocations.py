"""Revocations, and the state of a system that servers are told."""

from __future__ import annotations

import uuid

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.grants import (
    NOBODY,
    AccessState,
    GrantKind,
    Revocation,
    Revocations,
)
from dwcloud.protocol.grants.access import LONGEST_LIFE
from dwcloud.protocol.grants.revocations import (
    MAX_REVOCATIONS,
    decode_revocations,
    encode_revocations,
)

from .test_access_grants import ACCOUNT, NOW, grant_for

OTHER = uuid.UUID(int=4)
ISSUED = round(NOW * 1000)


class RevocationTests(SynchronousTestCase):
    """Grants of before are worthless, those of after are not."""

    def setUp(self) -> None:
        self.revocations = Revocations()

    def test_concerns_what_was_issued_before(self) -> None:
        """Up to the very millisecond, of that account alone."""
        self.revocations.add(Revocation(ACCOUNT, ISSUED))
        self.assertTrue(self.revocations.concern(grant_for()))
        self.assertFalse(self.revocations.concern(grant_for(issued_ms=ISSUED + 1)))
        self.assertFalse(self.revocations.concern(grant_for(account=OTHER)))

    def test_an_older_one_changes_nothing(self) -> None:
        """Revocations may come in any order, and again."""
        for until in (ISSUED, ISSUED - 5, ISSUED):
            self.revocations.add(Revocation(ACCOUNT, until))
        self.assertEqual(self.revocations.list(), (Revocation(ACCOUNT, ISSUED),))

    def test_everybody(self) -> None:
        """One of nobody concerns all, grants for everybody included."""
        self.revocations.add(Revocation(NOBODY, ISSUED))
        for grant in (grant_for(), grant_for(account=NOBODY, client_key=b"")):
            self.assertTrue(self.revocations.concern(grant))

    def test_forgotten_when_no_grant_is_left(self) -> None:
        """A day later, and some for the clocks, it is not needed any more."""
        self.revocations.add(Revocation(ACCOUNT, ISSUED))
        self.revocations.forget_old(now=NOW + LONGEST_LIFE)
        self.assertEqual(len(self.revocations), 1)
        self.revocations.forget_old(now=NOW + LONGEST_LIFE + 61)
        self.assertEqual(len(self.revocations), 0)

    @given(
        st.lists(
            st.tuples(st.integers(1, 2 * MAX_REVOCATIONS), st.integers(0, 1000)),
            max_size=2 * MAX_REVOCATIONS,
        )
    )
    def test_bounded_without_letting_anybody_in(
        self, revoked: list[tuple[int, int]]
    ) -> None:
        """However many there are, the table stays small and each one still counts."""
        revocations = Revocations()
        # Enough accounts that the table overflows in each example.
        everyone = [(n, n % 7) for n in range(1, MAX_REVOCATIONS + 50)] + revoked
        for account, until in everyone:
            revocations.add(Revocation(uuid.UUID(int=account), until))
        self.assertLessEqual(len(revocations), MAX_REVOCATIONS)
        for account, until in everyone:
            grant = grant_for(account=uuid.UUID(int=account), issued_ms=until)
            self.assertTrue(revocations.concern(grant))

    @given(
        st.lists(
            st.builds(Revocation, st.uuids(), st.integers(0, 2**64 - 1)), max_size=20
        )
    )
    def test_round_trip(self, revocations: list[Revocation]) -> None:
        """What the mediator sends is what a server reads."""
        encoded = encode_revocations(revocations)
        self.assertEqual(decode_revocations(encoded), tuple(revocations))

    @given(st.binary(max_size=100))
    def test_any_bytes_survive(self, data: bytes) -> None:
        """Whatever comes is read or refused."""
        for decode in (decode_revocations, AccessState.decode):
            try:
                decode(data)
            except RemoteProtocolError as error:
                self.assertEqual(error.code, 400)

    def test_too_many_are_refused(self) -> None:
        """More than anybody sends are not read."""
        one = encode_revocations([Revocation(ACCOUNT, 1)])
        decode_revocations(one * MAX_REVOCATIONS)
        self.assertRaises(
            RemoteProtocolError, decode_revocations, one * (MAX_REVOCATIONS + 1)
        )


class StateTests(SynchronousTestCase):
    """Which grants are good for anything."""

    @given(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 2**64 - 1))
    def test_round_trip(self, bound: bool, public: bool, web: bool, as_of: int) -> None:
        """What the mediator sends is what a server reads."""
        state = AccessState(
            is_bound=bound, is_public=public, has_web=web, as_of_ms=as_of
        )
        self.assertEqual(AccessState.decode(state.encode()), state)

    def test_allows(self) -> None:
        """Grants for everybody need a public system, gateways one with web access."""
        own, everybody = grant_for(), grant_for(client_key=b"", account=NOBODY)
        gateway = grant_for(kind=GrantKind.GATEWAY)
        private = AccessState(is_bound=True)
        public = AccessState(is_bound=True, is_public=True)
        web = AccessState(is_bound=True, has_web=True)
        allowed = {
            (state, name)
            for state in (private, public, web)
            for name, grant in (("own", own), ("all", everybody), ("web", gateway))
            if state.allows(grant)
        }
        self.assertEqual(
            allowed,
            {
                (private, "own"),
                (public, "own"),
                (public, "all"),
                (web, "own"),
                (web, "web"),
            },
        )
        for state in (private, public, web):
            unbound = attrs.evolve(state, is_bound=False)
            for grant in (own, everybody, gateway):
                self.assertFalse(unbound.allows(grant))
