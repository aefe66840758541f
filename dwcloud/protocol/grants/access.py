"""Connect and gateway grants: this account may connect to that system."""

from __future__ import annotations

import uuid
from enum import IntEnum
from struct import Struct

import attrs

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.grants.signatures import (
    SIGNATURE_BYTES,
    VERSION,
    Signer,
    Verifier,
    check_time,
    sign,
    take_signature_off,
)
from dwcloud.protocol.names import PeerName

__all__ = [
    "CLIENT_KEY_BYTES",
    "LONGEST_LIFE",
    "MAX_ACCOUNT_NAME",
    "MAX_GRANT",
    "NOBODY",
    "AccessGrant",
    "GrantKind",
    "Role",
    "grant_kind",
]

_FIXED = Struct("!BB16s16s16s16sBQQ32sB")
CLIENT_KEY_BYTES = 32
"""An Ed25519 public key (RFC 8032)."""
MAX_ACCOUNT_NAME = 63
"""Bytes of an account's name."""
MAX_GRANT = _FIXED.size + MAX_ACCOUNT_NAME + SIGNATURE_BYTES
"""Bytes of the longest grant."""
LONGEST_LIFE = 24 * 3600.0
"""Seconds that a grant is good for at most."""

NOBODY = uuid.UUID(int=0)
"""The account of a grant for everybody; the server of one for all of a system."""

_NO_KEY = bytes(CLIENT_KEY_BYTES)


class GrantKind(IntEnum):
    """The second byte of a grant."""

    CONNECT = 1
    """For a client."""
    GATEWAY = 2
    """For a relay that lets browsers in."""
    RELAY = 3
    """For one session at relays."""


class Role(IntEnum):
    """What an account may do with a system; a higher one includes the lower ones."""

    NOBODY = 0
    """None: the system is public."""
    VIEWER = 1
    """See it and connect to it."""
    ADMINISTRATOR = 2
    """Also rename it, share it with viewers, and read its log."""
    OWNER = 3
    """Also everything else; there is one."""

    @property
    def label(self) -> str:
        """The role in lower case, as people and the API call it."""
        return self.name.lower()


def grant_kind(data: bytes) -> int:
    """Return the kind that a grant says to be, 0 if it is too short for one."""
    return data[1] if len(data) > 1 and data[0] == VERSION else 0


@attrs.frozen(kw_only=True)
class AccessGrant:
    """What the cloud says of a client that wants to connect.

    :ivar kind: CONNECT or GATEWAY.
    :ivar grant_id: random.
    :ivar system: to which it admits.
    :ivar server: the only one to which it admits; None for all of the system.
    :ivar account: whose grant it is; :data:`NOBODY` for a public system's.
    :ivar role: that the account had when it was issued.
    :ivar issued_ms: when, milliseconds since 1970 (UTC).
    :ivar expires_ms: until when it is good.
    :ivar client_key: the key whose possession the client has to prove; empty in a
        grant for everybody.
    :ivar account_name: for logs.
    """

    kind: GrantKind = GrantKind.CONNECT
    grant_id: uuid.UUID
    system: uuid.UUID
    server: uuid.UUID | None = None
    account: uuid.UUID = NOBODY
    role: Role = Role.NOBODY
    issued_ms: int
    expires_ms: int
    client_key: bytes = b""
    account_name: str = ""

    @property
    def target(self) -> PeerName:
        """The system or server that it admits to."""
        return PeerName(self.system, self.server)

    @property
    def is_for_everybody(self) -> bool:
        """Whether nobody has to prove anything to use it."""
        return not self.client_key

    def encode(self, signer: Signer) -> bytes:
        """Return the grant for the wire, signed by the cloud.

        :raises LocalProtocolError: if a value does not fit.
        """
        name = self.account_name.encode("utf-8")
        if len(name) > MAX_ACCOUNT_NAME or not self.account_name.isprintable():
            raise LocalProtocolError(f"{self.account_name!r} is no account's name")
        if len(self.client_key) not in (0, CLIENT_KEY_BYTES):
            raise LocalProtocolError(f"a key of {len(self.client_key)} bytes")
        if self.kind is GrantKind.RELAY:
            raise LocalProtocolError("a relay grant is of another form")
        fixed = _FIXED.pack(
            VERSION,
            self.kind,
            self.grant_id.bytes,
            self.system.bytes,
            (self.server or NOBODY).bytes,
            self.account.bytes,
            self.role,
            self.issued_ms,
            self.expires_ms,
            self.client_key or _NO_KEY,
            len(name),
        )
        return sign(fixed + name, signer)

    @classmethod
    def decode(cls, data: bytes, verify: Verifier) -> AccessGrant:
        """Read a grant that the cloud has signed; its time is not looked at.

        :raises RemoteProtocolError: code 403, if the signature is not the cloud's or
            what is signed is no grant of this version.
        """
        if len(data) > MAX_GRANT:
            raise RemoteProtocolError("the grant is longer than any", 403)
        body = take_signature_off(data, verify)
        try:
            return _read(body)
        except (ValueError, IndexError) as error:
            raise RemoteProtocolError(f"no grant known here: {error}", 403) from error

    def check(self, server: PeerName, *, now: float) -> None:
        """Make sure that it admits to a server at a time.

        :param server: its full name; the system's alone for any of its servers.
        :param now: seconds since 1970 (UTC).
        :raises RemoteProtocolError: code 403, if it does not; the message says why.
        """
        if not self.target.includes(server):
            raise RemoteProtocolError("the grant is for another server", 403)
        check_time(self.issued_ms, self.expires_ms, LONGEST_LIFE, now=now)


def _read(body: bytes) -> AccessGrant:
    """Take a body apart; ValueError if it is none."""
    if len(body) < _FIXED.size:
        raise ValueError(f"{len(body)} bytes are too few")
    values = _FIXED.unpack_from(body)
    version, kind, grant_id, system, server, account, role = values[:7]
    issued, expires, client_key, length = values[7:]
    if version != VERSION or kind not in (GrantKind.CONNECT, GrantKind.GATEWAY):
        raise ValueError(f"version {version}, kind {kind}")
    name = body[_FIXED.size :].decode("utf-8")
    if len(body) != _FIXED.size + length or length > MAX_ACCOUNT_NAME:
        raise ValueError("the name has another length")
    if not name.isprintable():
        raise ValueError("the name has unprintable characters")
    return AccessGrant(
        kind=GrantKind(kind),
        grant_id=uuid.UUID(bytes=grant_id),
        system=uuid.UUID(bytes=system),
        server=uuid.UUID(bytes=server) if any(server) else None,
        account=uuid.UUID(bytes=account),
        role=Role(role),
        issued_ms=issued,
        expires_ms=expires,
        client_key=b"" if client_key == _NO_KEY else client_key,
        account_name=name,
    )
