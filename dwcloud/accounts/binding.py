"""The proof that somebody who binds a system has its key."""

from __future__ import annotations

import uuid

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dwcloud.accounts.refusals import Refused
from dwcloud.net.identity import verify_signature
from dwcloud.protocol.names import guid_from_public_key

__all__ = ["binding_text", "prove_system"]

_CONTEXT = b"dwcloud bind 1\0"


def binding_text(nonce: bytes, account: uuid.UUID, cloud_key: bytes) -> bytes:
    """Return what a system's key signs: good for one account, at one cloud, once."""
    return _CONTEXT + nonce + account.bytes + cloud_key


def prove_system(
    certificate: bytes, signature: bytes, signed: bytes
) -> tuple[uuid.UUID, bytes]:
    """Return the GUID and the public key (DER) of the system that has signed.

    :param certificate: the system's, DER.
    :param signature: ECDSA with SHA-256, DER.
    :raises Refused: 400, if that is no system's certificate, or not its signature.
    """
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Refused(
            400,
            "bad_certificate",
            "The certificate is not that of a system: expected the DER of system.crt.",
        )
    if not verify_signature(certificate, signature, signed):
        raise Refused(
            400,
            "bad_signature",
            "The signature is not by the system's key over nonce, account and cloud.",
        )
    public_key = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return guid_from_public_key(public_key), public_key
