"""How a client shows that a grant is its own: it holds the key that is named there."""

from __future__ import annotations

import uuid

import attrs

from dwcloud.protocol.grants.signatures import Signer

__all__ = ["ClientGrant", "possession_text"]

_PREFIX = b"dwcloud open 1\0"


@attrs.frozen
class ClientGrant:
    """A grant in the hands of a client.

    :ivar encoded: as the cloud issued it.
    :ivar sign: signs with the client's key; None for a grant for everybody.
    """

    encoded: bytes = attrs.field(repr=False)
    sign: Signer | None = attrs.field(default=None, repr=False)

    def possession(self, session: uuid.UUID | None, binding: bytes) -> bytes:
        """Return the proof for one path; empty with a grant for everybody.

        :param session: the connect session id, None on a path that has none.
        :param binding: see :func:`possession_text`.
        """
        if self.sign is None:
            return b""
        return self.sign(possession_text(session, binding))


def possession_text(session: uuid.UUID | None, binding: bytes) -> bytes:
    """Return what a client signs with its key to use a grant on one path.

    :param session: the connect session id, None on a path that has none.
    :param binding: what only this path has: 32 bytes of the TLS exporter, or without
        TLS the nonce of OPEN and the system's GUID (docs/protocol/grants).
    """
    return _PREFIX + (session.bytes if session else bytes(16)) + binding
