"""Secrets that are given out, of which only hashes are kept.

Tokens have 256 random bits (codes for people 80 or more), so a plain SHA-256 of them
cannot be turned round, and they are found by their hash: nothing compares them byte by
byte, so no time tells how much of a guess was right.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable

__all__ = ["RandomBytes", "hash_secret", "new_code", "new_token", "normal_code"]

RandomBytes = Callable[[int], bytes]

_GROUP = 4
_MAX_SECRET = 512


def new_token(random_bytes: RandomBytes = secrets.token_bytes) -> str:
    """Make a token: 43 characters that fit into a URL."""
    return base64.urlsafe_b64encode(random_bytes(32)).rstrip(b"=").decode("ascii")


def new_code(size: int = 10, random_bytes: RandomBytes = secrets.token_bytes) -> str:
    """Make a code that people can type: groups of four letters and digits.

    :param size: random bytes in it, a multiple of five.
    """
    text = base64.b32encode(random_bytes(size)).decode("ascii").lower()
    return "-".join(text[i : i + _GROUP] for i in range(0, len(text), _GROUP))


def normal_code(code: str) -> str:
    """Bring a code that somebody typed into the form in which it was given out."""
    text = "".join(c for c in code.lower() if c.isascii() and c.isalnum())
    return "-".join(text[i : i + _GROUP] for i in range(0, len(text), _GROUP))


def hash_secret(secret: str) -> str:
    """Return what the store keeps of a token or code."""
    kept = secret[:_MAX_SECRET].encode("utf-8", "surrogatepass")
    return hashlib.sha256(kept).hexdigest()
