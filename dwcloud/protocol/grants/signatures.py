"""What all grants have in common: a body, a signature behind it, and a time.

Keys are not known here: a grant is signed and verified by callables.
"""

from __future__ import annotations

from collections.abc import Callable

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "CLOCK_TOLERANCE",
    "SIGNATURE_BYTES",
    "VERSION",
    "Signer",
    "Verifier",
    "check_time",
    "milliseconds",
    "sign",
    "take_signature_off",
]

VERSION = 1
SIGNATURE_BYTES = 64
"""An Ed25519 signature (RFC 8032)."""

CLOCK_TOLERANCE = 30.0
"""Seconds by which the clock of who checks may differ from the cloud's."""

_PREFIX = b"dwcloud grant 1\0"

Signer = Callable[[bytes], bytes]
"""Signs with the cloud's or a client's key."""

Verifier = Callable[[bytes, bytes], bool]
"""Tells whether a signature, the first argument, is the cloud's under some bytes."""


def milliseconds(seconds: float) -> int:
    """Return a time for the wire."""
    return round(seconds * 1000)


def sign(body: bytes, signer: Signer) -> bytes:
    """Return a body with its signature.

    :raises LocalProtocolError: if that has not the size of one.
    """
    signature = signer(_PREFIX + body)
    if len(signature) != SIGNATURE_BYTES:
        raise LocalProtocolError(f"a signature of {len(signature)} bytes")
    return body + signature


def take_signature_off(data: bytes, verify: Verifier) -> bytes:
    """Return the body of what the cloud has signed.

    :raises RemoteProtocolError: code 403, if the signature is not the cloud's.
    """
    body, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    if len(signature) != SIGNATURE_BYTES or not verify(signature, _PREFIX + body):
        raise RemoteProtocolError("the grant is not signed by this cloud", 403)
    return body


def check_time(issued_ms: int, expires_ms: int, longest: float, *, now: float) -> None:
    """Make sure that a grant is good at a time.

    :param longest: seconds that a grant of its kind may be good for.
    :param now: seconds since 1970 (UTC).
    :raises RemoteProtocolError: code 403, if it is not.
    """
    if not 0 <= expires_ms - issued_ms <= milliseconds(longest):
        raise RemoteProtocolError("the grant lasts longer than any may", 403)
    if milliseconds(now + CLOCK_TOLERANCE) < issued_ms:
        raise RemoteProtocolError("the grant is from the future: check the clock", 403)
    if milliseconds(now - CLOCK_TOLERANCE) >= expires_ms:
        raise RemoteProtocolError("the grant has expired", 403)
