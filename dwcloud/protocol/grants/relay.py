"""Relay grants: this connect session may be joined with that server at relays."""

from __future__ import annotations

import base64
import binascii
import uuid
from struct import Struct

import attrs

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.grants.access import GrantKind
from dwcloud.protocol.grants.signatures import (
    SIGNATURE_BYTES,
    VERSION,
    Signer,
    Verifier,
    check_time,
    milliseconds,
    sign,
    take_signature_off,
)
from dwcloud.protocol.names import PeerName

__all__ = [
    "RELAY_GRANT_BYTES",
    "RELAY_GRANT_LIFE",
    "SCHEME",
    "RelayGrant",
    "authorization_of",
    "grant_of_authorization",
]

_BODY = Struct("!BB16s16s16sQQ")
RELAY_GRANT_BYTES = _BODY.size + SIGNATURE_BYTES
RELAY_GRANT_LIFE = 60.0
"""Seconds that one is good for: a client goes to the relays at once."""

SCHEME = "DWCloud-Grant"
"""The scheme of ``Authorization`` that carries one in base64 (RFC 9110, 11)."""


@attrs.frozen(kw_only=True)
class RelayGrant:
    """What the mediator says of a client that goes to a relay.

    :ivar session_id: of the connect session.
    :ivar server: the full name of the server that it may be joined with.
    :ivar issued_ms: when, milliseconds since 1970 (UTC).
    :ivar expires_ms: until when it is good.
    """

    session_id: uuid.UUID
    server: PeerName
    issued_ms: int
    expires_ms: int

    @classmethod
    def issue(cls, session_id: uuid.UUID, server: PeerName, now: float) -> RelayGrant:
        """Make one that is good from now on."""
        return cls(
            session_id=session_id,
            server=server,
            issued_ms=milliseconds(now),
            expires_ms=milliseconds(now + RELAY_GRANT_LIFE),
        )

    def encode(self, signer: Signer) -> bytes:
        """Return the grant for the wire, signed by the cloud.

        :raises LocalProtocolError: if it names no server.
        """
        if self.server.server is None:
            raise LocalProtocolError("a relay grant is for one server")
        body = _BODY.pack(
            VERSION,
            GrantKind.RELAY,
            self.session_id.bytes,
            self.server.system.bytes,
            self.server.server.bytes,
            self.issued_ms,
            self.expires_ms,
        )
        return sign(body, signer)

    @classmethod
    def decode(cls, data: bytes, verify: Verifier) -> RelayGrant:
        """Read a grant that the cloud has signed; its time is not looked at.

        :raises RemoteProtocolError: code 403, if the signature is not the cloud's or
            what is signed is no relay grant of this version.
        """
        body = take_signature_off(data, verify)
        if len(body) != _BODY.size:
            raise RemoteProtocolError("the grant is no relay grant", 403)
        version, kind, session, system, server, issued, expires = _BODY.unpack(body)
        if (version, kind) != (VERSION, GrantKind.RELAY):
            raise RemoteProtocolError("the grant is no relay grant", 403)
        return cls(
            session_id=uuid.UUID(bytes=session),
            server=PeerName(uuid.UUID(bytes=system), uuid.UUID(bytes=server)),
            issued_ms=issued,
            expires_ms=expires,
        )

    def check(self, target: PeerName, *, now: float) -> None:
        """Make sure that it is for a server, now.

        :param target: the full name of the server.
        :param now: seconds since 1970 (UTC).
        :raises RemoteProtocolError: code 403, if it is not; the message says why.
        """
        if target != self.server:
            raise RemoteProtocolError("the grant is for another server", 403)
        check_time(self.issued_ms, self.expires_ms, RELAY_GRANT_LIFE, now=now)


def authorization_of(grant: bytes) -> str:
    """Return the value of ``Authorization`` that carries a grant."""
    return f"{SCHEME} {base64.b64encode(grant).decode('ascii')}"


def grant_of_authorization(field: str) -> bytes:
    """Take the grant out of ``Authorization``.

    :raises RemoteProtocolError: code 401, if there is none, 403 if it is no base64.
    """
    scheme, _, value = field.strip().partition(" ")
    if scheme.lower() != SCHEME.lower():
        raise RemoteProtocolError("this relay wants the mediator's grant", 401)
    try:
        return base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RemoteProtocolError("the grant is not base64", 403) from error
