"""Whose certificates and signature these are."""

from __future__ import annotations

from dwcloud.errors import IdentityMismatch
from dwcloud.net.identity import verify_certificates, verify_signature
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.names import PeerName

__all__ = ["verify_proof"]


def verify_proof(
    certificates: tuple[bytes, bytes], signature: bytes, data: bytes
) -> PeerName:
    """Return the name of the server that signed ``data``.

    :param certificates: the server's and its system's, as DER.
    :raises RemoteProtocolError: with 401 if nothing is proven; the message says why.
    """
    try:
        name = verify_certificates(certificates)
    except IdentityMismatch as e:
        raise RemoteProtocolError(str(e), 401) from e
    if not verify_signature(certificates[0], signature, data):
        raise RemoteProtocolError(f"the signature is not one of {name}", 401)
    return name
