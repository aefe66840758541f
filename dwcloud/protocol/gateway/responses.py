"""Answers of servers, as they may go to a browser."""

from __future__ import annotations

from dwcloud.protocol.gateway.cookies import host_only
from dwcloud.protocol.gateway.fields import Fields, end_to_end

__all__ = ["to_browser"]

_DROPPED = frozenset(
    {
        # Concerns all hosts below the domain, of other systems, too.
        b"clear-site-data",
        # Another place to connect to, which bypasses the gateway.
        b"alt-svc",
        # Reports would tell others what is visited here.
        b"public-key-pins",
    }
)


def to_browser(headers: Fields, authority: str) -> list[tuple[bytes, bytes]]:
    """Return the fields of an answer.

    :param authority: of the host, as the browser knows it.
    """
    fields = []
    for name, value in end_to_end(headers):
        if name in _DROPPED:
            continue
        if name == b"set-cookie":
            kept = host_only(value)
            if kept is not None:
                fields.append((name, kept))
        elif name in (b"location", b"content-location"):
            fields.append((name, _secure(value, authority)))
        else:
            fields.append((name, value))
    return fields


def _secure(location: bytes, authority: str) -> bytes:
    """Return a URL of this host with https: the server knows of no TLS."""
    plain = f"http://{authority}".encode("ascii")
    rest = location[len(plain) :]
    if location.lower().startswith(plain) and rest[:1] in (b"", b"/", b"?", b"#"):
        return b"https" + location[4:]
    return location
