"""The portal's files, as resources of the mediator's HTTP server.

There is no build step and nothing from another host: the browser gets the files of
``static/`` as they are.
"""

from __future__ import annotations

import re
from functools import partial
from importlib.resources import files
from ipaddress import ip_address

from dwcloud.net.http_messages import Reply, Request, Response, Routes, plain_response

__all__ = ["CONTENT_SECURITY_POLICY", "add_pages"]

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""No script or style but our files, no connection to another host, no frame around
the page, and no way to make markup of a text."""

_PAGES = {"/": "index.html", "/gateway": "gateway.html"}
"""Path to the file of each page; what pages need is below :data:`_FILES`."""

_FILES = "/portal/"

_HEADERS = (
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()"),
)
_ONE_YEAR = 365 * 24 * 3600
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HOST = re.compile(r"[A-Za-z0-9._-]+(?::\d{1,5})?|\[[0-9A-Fa-f:.]+\](?::\d{1,5})?")


def add_pages(routes: Routes) -> None:
    """Answer with the portal on ``/``, and with its files."""
    static = files("dwcloud.web").joinpath("static")
    found = {entry.name: entry.read_bytes() for entry in static.iterdir()}
    served = {_FILES + name: name for name in found if not name.endswith(".html")}
    for path, name in {**_PAGES, **served}.items():
        media_type = _TYPES[name[name.rindex(".") :]]
        show = partial(_show, found[name], media_type)
        for method in ("GET", "HEAD"):
            routes.add(method, path, show)


def _show(body: bytes, media_type: str, request: Request) -> Reply:
    if not (request.secure or _is_behind_https(request)):
        return _to_https(request)
    headers: tuple[tuple[str, str], ...] = _HEADERS
    if _has_issued_certificate(request):
        headers += (("Strict-Transport-Security", f"max-age={_ONE_YEAR}"),)
    return Response(200, body, media_type, headers)


def _is_behind_https(request: Request) -> bool:
    """Tell whether a web server on this machine passes a request on that had TLS."""
    if (request.header("x-forwarded-proto") or "").strip().lower() != "https":
        return False
    try:
        return ip_address(getattr(request.peer, "host", "")).is_loopback
    except ValueError:
        return False


def _to_https(request: Request) -> Reply:
    """Send a browser to the same place over TLS, which the same port speaks."""
    host = request.header("host") or ""
    if not _HOST.fullmatch(host):
        return plain_response(403, "This is shown only over TLS: use https.")
    return plain_response(
        308,
        "This is shown only over TLS: use https.",
        (("Location", f"https://{host}{request.path}"),),
    )


def _has_issued_certificate(request: Request) -> bool:
    """Tell whether the certificate is one that somebody else has issued.

    With one of its own making the warning of the browser can be overridden, which
    Strict-Transport-Security would forbid (:rfc:`6797`, 8.4).
    """
    transport = request.connection.transport
    handle = getattr(transport, "getHandle", lambda: None)()
    own = getattr(handle, "get_certificate", lambda: None)()
    return own is not None and own.get_issuer() != own.get_subject()
