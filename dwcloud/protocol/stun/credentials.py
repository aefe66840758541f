"""What long-term credentials are made of (RFC 8489, 9.2): keys, hashes and nonces."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import unicodedata
from enum import IntFlag

from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.stun.attributes import PasswordAlgorithm

__all__ = [
    "NONCE_COOKIE",
    "NonceSource",
    "SecurityFeature",
    "long_term_key",
    "make_nonce",
    "nonce_features",
    "opaque_string",
    "short_term_key",
    "user_hash",
]

NONCE_COOKIE = b"obMatJos2"
"""A nonce that starts with it tells the security features of the server."""

_FEATURES_END = len(NONCE_COOKIE) + 4
_JOINERS = "\u200c\u200d"


class SecurityFeature(IntFlag):
    """What a server says in its nonce that it can do (RFC 8489, 18.1).

    A man in the middle who hides a feature must change the nonce, and the server
    notices. Bit 0 is the least significant one, as in the sample of appendix B.1 and
    in verified erratum 6290; the RFC's prose has it the other way round.
    """

    PASSWORD_ALGORITHMS = 1
    USERNAME_ANONYMITY = 2


def opaque_string(text: str) -> str:
    """Prepare a user name, realm or password for comparison (RFC 8265, 4.2).

    :raises LocalProtocolError: if it is empty or has control characters, unassigned
        ones, or others that cannot be seen.
    """
    spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in text)
    prepared = unicodedata.normalize("NFC", spaced)
    if not prepared:
        raise LocalProtocolError("an empty name or password")
    for character in prepared:
        if unicodedata.category(character)[0] == "C" and character not in _JOINERS:
            raise LocalProtocolError(
                f"a name or password has the character U+{ord(character):04X}"
            )
    return prepared


def long_term_key(
    username: str,
    realm: str,
    password: str,
    algorithm: PasswordAlgorithm = PasswordAlgorithm.SHA256,
) -> bytes:
    """Return the integrity key of a user (9.2.2): 16 bytes (MD5) or 32 (SHA-256)."""
    text = ":".join(opaque_string(part) for part in (username, realm, password))
    if algorithm is PasswordAlgorithm.MD5:
        # What RFC 5389 clients use; safe as a key only because HMAC does not need
        # a hash without collisions.
        return hashlib.md5(text.encode(), usedforsecurity=False).digest()
    return hashlib.sha256(text.encode()).digest()


def short_term_key(password: str) -> bytes:
    """Return the integrity key of a short-term password (9.1.1)."""
    return opaque_string(password).encode()


def user_hash(username: str, realm: str) -> bytes:
    """Return the value of USERHASH, 32 bytes (14.4): a name for its server only."""
    text = f"{opaque_string(username)}:{opaque_string(realm)}"
    return hashlib.sha256(text.encode()).digest()


def make_nonce(features: SecurityFeature, unique: bytes) -> bytes:
    """Return a nonce that tells the features.

    :param unique: printable ASCII that no other nonce has.
    """
    return NONCE_COOKIE + base64.b64encode(features.to_bytes(3, "big")) + unique


def nonce_features(nonce: bytes) -> SecurityFeature:
    """Return what a nonce tells; no feature if it tells nothing."""
    if not nonce.startswith(NONCE_COOKIE):
        return SecurityFeature(0)
    try:
        bits = base64.b64decode(nonce[len(NONCE_COOKIE) : _FEATURES_END], validate=True)
    except binascii.Error:
        return SecurityFeature(0)
    known = SecurityFeature.PASSWORD_ALGORITHMS | SecurityFeature.USERNAME_ANONYMITY
    return SecurityFeature(int.from_bytes(bits, "big") & known)


class NonceSource:
    """Issues nonces that need no memory: each proves its own age and its client.

    :param secret: random bytes of this server, at least 16.
    :param features: what the nonces tell.
    :param lifetime: seconds that a nonce is good for.
    """

    def __init__(
        self, secret: bytes, features: SecurityFeature, *, lifetime: float = 600.0
    ) -> None:
        if len(secret) < 16:
            raise LocalProtocolError("the secret of a nonce has at least 16 bytes")
        self._secret = secret
        self._features = features
        self._lifetime = lifetime

    def issue(self, client: bytes, *, now: float) -> bytes:
        """Return a nonce for ``client``, such as its address as bytes."""
        return self._nonce(client, round((now + self._lifetime) * 1000))

    def is_valid(self, nonce: bytes, client: bytes, *, now: float) -> bool:
        """Tell whether a nonce was issued here, to this client, and is not too old."""
        try:
            expiry = int(nonce[_FEATURES_END : _FEATURES_END + 16], 16)
        except ValueError:
            return False
        # Compared as bytes: all else that int() accepts is not what we issued.
        issued = 0 <= expiry < 1 << 64 and hmac.compare_digest(
            nonce, self._nonce(client, expiry)
        )
        return issued and now * 1000 <= expiry

    def _nonce(self, client: bytes, expiry: int) -> bytes:
        stamp = b"%016x" % expiry
        proof = hmac.digest(self._secret, stamp + client, hashlib.sha256)[:16]
        return make_nonce(self._features, stamp + proof.hex().encode())
