"""Proving over a control connection who a server is (docs/protocol/mediation).

A request with a proof carries NONCE, the two certificates and, last, a SIGNATURE over
everything before it, over the nonce, and over the TLS connection where there is one.
"""

from __future__ import annotations

from collections.abc import Callable

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.attributes import (
    SERVER_CERTIFICATE,
    SIGNATURE,
    SYSTEM_CERTIFICATE,
)
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.stun.attributes import AttributeType
from dwcloud.protocol.stun.message import RawAttribute, STUNMessage

__all__ = ["Signer", "Verifier", "add_proof", "has_proof", "verify_proof"]

Signer = Callable[[bytes], bytes]
"""Signs with the server's key."""

Verifier = Callable[[tuple[bytes, bytes], bytes, bytes], PeerName]
"""Returns the name that certificates (the server's, the system's), a signature and
the signed data prove; raises RemoteProtocolError with code 401 if they do not."""

_DOMAIN = b"dwcloud listen 1"


def add_proof(
    request: STUNMessage,
    *,
    nonce: bytes,
    certificates: tuple[bytes, bytes],
    sign: Signer,
    channel_binding: bytes,
) -> STUNMessage:
    """Return ``request`` with a proof added.

    :param nonce: as the mediator gave it.
    :param certificates: the server's and its system's, DER.
    :param channel_binding: what only the two ends of the TLS connection know; empty
        without TLS.
    """
    server_certificate, system_certificate = certificates
    unsigned = request.with_attributes(
        RawAttribute(AttributeType.NONCE, nonce),
        RawAttribute(SERVER_CERTIFICATE.number, server_certificate),
        RawAttribute(SYSTEM_CERTIFICATE.number, system_certificate),
    )
    signature = sign(_signed_data(unsigned, nonce, channel_binding))
    return unsigned.with_attributes(RawAttribute(SIGNATURE.number, signature))


def has_proof(request: STUNMessage) -> bool:
    """Tell whether a request carries a proof, good or not."""
    return request.get(SIGNATURE.number) is not None


def verify_proof(
    request: STUNMessage, *, verify: Verifier, channel_binding: bytes
) -> PeerName:
    """Return the name that a request proves; the caller checks the nonce.

    :raises RemoteProtocolError: code 400 or 401.
    """
    nonce = request.require(AttributeType.NONCE)
    certificates = (
        SERVER_CERTIFICATE.decode(request.require(SERVER_CERTIFICATE.number), b""),
        SYSTEM_CERTIFICATE.decode(request.require(SYSTEM_CERTIFICATE.number), b""),
    )
    signature = SIGNATURE.decode(request.require(SIGNATURE.number), b"")
    # What stands behind the signature is not signed, so it must not be there.
    if request.attributes[-1].type != SIGNATURE.number:
        raise RemoteProtocolError("SIGNATURE is not the last attribute", 400)
    unsigned = STUNMessage(
        request.method,
        request.message_class,
        request.transaction_id,
        request.attributes[:-1],
    )
    return verify(
        certificates, signature, _signed_data(unsigned, nonce, channel_binding)
    )


def _signed_data(unsigned: STUNMessage, nonce: bytes, channel_binding: bytes) -> bytes:
    parts = (_DOMAIN, nonce, channel_binding, unsigned.encode())
    # Lengths in front, so that no two different lists of parts look the same. The
    # encoded message starts with the method.
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
