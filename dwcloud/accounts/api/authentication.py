"""Who asks: tokens in header fields or cookies, and what browsers are tricked to."""

from __future__ import annotations

import hmac
from hashlib import sha256
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred

from dwcloud.accounts.audit import Actor
from dwcloud.accounts.refusals import Refused
from dwcloud.accounts.sessions import (
    BEARER,
    COOKIE,
    SESSION_LIFETIME,
    session_of,
)
from dwcloud.accounts.store import Store
from dwcloud.accounts.tokens import hash_secret
from dwcloud.net.http_messages import Request
from dwcloud.protocol.addresses import parse_ip

__all__ = [
    "COOKIE_NAME",
    "CSRF_HEADER",
    "check_operator",
    "check_origin",
    "check_transport",
    "clear_cookie",
    "cookie_field",
    "csrf_token",
    "source_address",
    "token_of",
    "who_asks",
]

COOKIE_NAME = "__Host-dwcloud"
"""The prefix makes browsers take it only from this host, over TLS (RFC 6265bis)."""

CSRF_HEADER = "X-DWCloud-CSRF"
"""Comes with each change that a browser asks for."""

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_COOKIE_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Strict"


def source_address(request: Request) -> str:
    """Return the IP address of who asks.

    A server on this machine that passes requests on tells it as the last one in
    ``X-Forwarded-For``; what others say there does not count.
    """
    host = str(getattr(request.peer, "host", ""))
    if not _is_loopback(host):
        return host
    told = (request.header("x-forwarded-for") or "").rpartition(",")[2].strip()
    try:
        return str(parse_ip(told))
    except ValueError:
        return host


def _is_loopback(host: str) -> bool:
    try:
        return parse_ip(host).is_loopback
    except ValueError:
        return False


def check_transport(request: Request) -> None:
    """Make sure that nobody can read along.

    :raises Refused: 403, if the request came without TLS from another machine.
    """
    if request.secure or _is_loopback(str(getattr(request.peer, "host", ""))):
        return
    raise Refused(
        403,
        "tls_required",
        "This is answered only over TLS: use https instead of http.",
    )


def check_origin(request: Request) -> None:
    """Make sure that no other site's page asks for a change.

    Browsers say where a request comes from; commands say nothing.

    :raises Refused: 403, if another site does.
    """
    if request.method in _SAFE_METHODS:
        return
    site = request.header("sec-fetch-site")
    origin = request.header("origin")
    foreign = site is not None and site not in ("same-origin", "none")
    if origin is not None and not foreign:
        try:
            foreign = (
                urlsplit(origin).netloc.lower()
                != (request.header("host") or "").lower()
            )
        except ValueError:
            foreign = True
    if foreign:
        raise Refused(
            403, "cross_site", "Pages of other sites cannot change anything here."
        )


def check_operator(request: Request, operator_hash: str) -> None:
    """Make sure that the operator asks, on the machine itself.

    :param operator_hash: of the key in the directory, see :func:`hash_secret`.
    :raises Refused: 401, if somebody else does.
    """
    token, kind = token_of(request)
    local = _is_loopback(str(getattr(request.peer, "host", "")))
    # A server in front lets others in as well.
    local = local and request.header("x-forwarded-for") is None
    right = hmac.compare_digest(hash_secret(token), operator_hash)
    if not (local and right and kind == BEARER):
        raise Refused(
            401,
            "signed_out",
            "The operator asks from the mediator's own machine, with the key in its "
            "directory of accounts.",
        )


def csrf_token(access_token: str) -> str:
    """Return what a page of this site sends with each change.

    Another site's page can make a browser send the cookie, but cannot read this.
    """
    return sha256(b"dwcloud csrf 1\0" + access_token.encode()).hexdigest()


def cookie_field(access_token: str) -> tuple[str, str]:
    """Return the header field that keeps a session in a browser."""
    return (
        "Set-Cookie",
        f"{COOKIE_NAME}={access_token}; Max-Age={SESSION_LIFETIME}; "
        + _COOKIE_ATTRIBUTES,
    )


def clear_cookie() -> tuple[str, str]:
    """Return the header field that makes a browser forget its session."""
    return ("Set-Cookie", f"{COOKIE_NAME}=; Max-Age=0; {_COOKIE_ATTRIBUTES}")


def token_of(request: Request) -> tuple[str, str]:
    """Return the access token of a request and how it came; both empty without one."""
    scheme, _, token = (request.header("authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip(), BEARER
    for cookie in (request.header("cookie") or "").split(";"):
        name, _, value = cookie.strip().partition("=")
        if name == COOKIE_NAME and value:
            return value, COOKIE
    return "", ""


def who_asks(
    store: Store, request: Request, address: str
) -> Deferred[Actor | None] | None:
    """Find out who asks; None without any token.

    :raises Refused: 403, if a browser was tricked into a change.
    """
    token, kind = token_of(request)
    if not token:
        return None
    if kind == COOKIE and request.method not in _SAFE_METHODS:
        given = (request.header(CSRF_HEADER) or "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, csrf_token(token).encode()):
            raise Refused(
                403,
                "csrf",
                f"A change by cookie needs the header field {CSRF_HEADER} with the "
                "token of the session.",
            )
    return store.run(session_of, token, kind, address)
