"""Which grants are worthless before their time.

A revocation names an account and a time: its grants of up to then admit no more, newer
ones do. Grants are good for a day at most, and so are revocations kept.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from struct import Struct

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.grants.access import (
    LONGEST_LIFE,
    NOBODY,
    AccessGrant,
    GrantKind,
)
from dwcloud.protocol.grants.signatures import CLOCK_TOLERANCE, milliseconds

__all__ = [
    "MAX_REVOCATIONS",
    "AccessState",
    "Revocation",
    "Revocations",
    "decode_revocations",
    "encode_revocations",
]

MAX_REVOCATIONS = 500
"""Of one system; more become one that concerns all accounts."""

KEPT = LONGEST_LIFE + 2 * CLOCK_TOLERANCE
"""Seconds: then every grant that it concerns has expired."""

_REVOCATION = Struct("!16sQ")
_STATE = Struct("!BQ")
_BOUND, _PUBLIC, _WEB = 1, 2, 4


@attrs.frozen
class Revocation:
    """Grants of an account, issued up to a time, are worthless.

    :ivar account: whose; :data:`~.access.NOBODY` for everybody's.
    :ivar until_ms: milliseconds since 1970 (UTC).
    """

    account: uuid.UUID
    until_ms: int


class Revocations:
    """The revocations of one system, at most :data:`MAX_REVOCATIONS`."""

    # A mediator has one for each system.
    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[uuid.UUID, int] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, revocation: Revocation) -> None:
        """Take one more; an older one of the same account is part of it."""
        account, until = revocation.account, revocation.until_ms
        self._until[account] = max(until, self._until.get(account, 0))
        while len(self._until) > MAX_REVOCATIONS:
            # Nobody who is out gets in again; the others fetch new grants.
            oldest = min(set(self._until) - {NOBODY}, key=self._until.__getitem__)
            everybody = max(self._until.pop(oldest), self._until.get(NOBODY, 0))
            self._until[NOBODY] = everybody

    def concern(self, grant: AccessGrant) -> bool:
        """Tell whether a grant is worthless."""
        until = max(self._until.get(grant.account, -1), self._until.get(NOBODY, -1))
        return grant.issued_ms <= until

    def forget_old(self, *, now: float) -> None:
        """Forget those that concern expired grants only."""
        least = milliseconds(now - KEPT)
        for account in [a for a, until in self._until.items() if until < least]:
            del self._until[account]

    def list(self) -> tuple[Revocation, ...]:
        """Return them all."""
        return tuple(Revocation(a, until) for a, until in self._until.items())


@attrs.frozen(kw_only=True)
class AccessState:
    """What the mediator tells a server of the access to its system.

    :ivar is_bound: whether an account owns the system; nobody may connect to one that
        none does.
    :ivar is_public: whether everybody may connect.
    :ivar has_web: whether relays may let browsers in.
    :ivar as_of_ms: when this was so, milliseconds since 1970 (UTC).
    """

    is_bound: bool
    is_public: bool = False
    has_web: bool = False
    as_of_ms: int = 0

    def allows(self, grant: AccessGrant) -> bool:
        """Tell whether grants of its kind are good for anything."""
        if not self.is_bound:
            return False
        if grant.kind is GrantKind.GATEWAY and not self.has_web:
            return False
        return self.is_public or not grant.is_for_everybody

    def encode(self) -> bytes:
        """Return it for the wire."""
        flags = _BOUND * self.is_bound | _PUBLIC * self.is_public | _WEB * self.has_web
        return _STATE.pack(flags, self.as_of_ms)

    @classmethod
    def decode(cls, data: bytes) -> AccessState:
        """Read it; flags not known here are skipped.

        :raises RemoteProtocolError: code 400, if it is malformed.
        """
        if len(data) != _STATE.size:
            raise RemoteProtocolError("malformed access state", 400)
        flags, as_of = _STATE.unpack(data)
        return cls(
            is_bound=bool(flags & _BOUND),
            is_public=bool(flags & _PUBLIC),
            has_web=bool(flags & _WEB),
            as_of_ms=as_of,
        )


def encode_revocations(revocations: Iterable[Revocation]) -> bytes:
    """Return revocations for the wire, 24 bytes each."""
    return b"".join(_REVOCATION.pack(r.account.bytes, r.until_ms) for r in revocations)


def decode_revocations(data: bytes) -> tuple[Revocation, ...]:
    """Read revocations.

    :raises RemoteProtocolError: code 400, if they are malformed or too many.
    """
    if len(data) % _REVOCATION.size or len(data) > MAX_REVOCATIONS * _REVOCATION.size:
        raise RemoteProtocolError("malformed revocations", 400)
    return tuple(
        Revocation(uuid.UUID(bytes=account), until)
        for account, until in _REVOCATION.iter_unpack(data)
    )
