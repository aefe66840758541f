"""Cookies of the gateway itself, and keeping them apart from those of services.

All names of the gateway begin with ``__Host-dwcloud``: browsers take such cookies only
from the very host, over TLS, and without ``Domain`` (RFC 6265bis, 4.1.3.2), so that no
other host below the domain can plant one.
"""

from __future__ import annotations

__all__ = [
    "LOGIN_COOKIE",
    "SESSION_COOKIE",
    "clear_cookie",
    "cookie_of",
    "host_only",
    "set_cookie",
    "without_own_cookies",
]

SESSION_COOKIE = "__Host-dwcloud-web"
"""Who has entered."""

LOGIN_COOKIE = "__Host-dwcloud-login"
"""Who is about to."""

_RESERVED = "__host-dwcloud"
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"


def set_cookie(name: str, value: str, seconds: int) -> tuple[str, str]:
    """Return the field that makes a browser keep a cookie of ours."""
    return ("Set-Cookie", f"{name}={value}; Max-Age={seconds}; {_ATTRIBUTES}")


def clear_cookie(name: str) -> tuple[str, str]:
    """Return the field that makes a browser forget a cookie of ours."""
    return set_cookie(name, "", 0)


def _is_own(name: str) -> bool:
    return name.strip().lower().startswith(_RESERVED)


def cookie_of(field: str, name: str) -> str:
    """Return the value of a cookie; empty without it, or if it is there twice."""
    values = [
        value.strip()
        for key, _, value in (pair.partition("=") for pair in field.split(";"))
        if key.strip() == name
    ]
    return values[0] if len(values) == 1 else ""


def without_own_cookies(field: bytes) -> bytes:
    """Return a ``Cookie`` field for the server: what is the gateway's stays here."""
    pairs = [pair.strip() for pair in field.split(b";")]
    return b"; ".join(
        pair
        for pair in pairs
        if pair and not _is_own(pair.partition(b"=")[0].decode("latin-1"))
    )


def host_only(field: bytes) -> bytes | None:
    """Return a server's ``Set-Cookie`` as it may go to a browser.

    The server is one of many below the domain, so that a cookie of its must not go to
    the others: ``Domain`` is taken off. None for a name that is the gateway's, or none.
    """
    pair, *attributes = field.split(b";")
    name, _, _ = pair.partition(b"=")
    # Of one without a name the value is read as one (RFC 6265bis, 5.7).
    if b"=" not in pair or not name.strip() or _is_own(name.decode("latin-1")):
        return None
    kept = [
        attribute
        for attribute in attributes
        if attribute.partition(b"=")[0].strip().lower() != b"domain"
    ]
    return b";".join([pair, *kept])
