"""Requests that open tunnels, shown to an application as those for ``upgrade``."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import attrs

from dwcloud.net.http_messages import Request
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.tunnelling.methods import PROBE_PATH, UPGRADE

__all__ = ["as_upgrade", "leads_nowhere", "tunnel_id_of"]

_ID = re.compile(r"[0-9a-f]{32}")


def tunnel_id_of(request: Request) -> str:
    """Return the tunnel that a request belongs to.

    :raises RemoteProtocolError: if it names none, code 400.
    """
    tunnel_id = dict(parse_qsl(request.query)).get("tunnel", "")
    if not _ID.fullmatch(tunnel_id):
        raise RemoteProtocolError("this resource is for tunnels", 400)
    return tunnel_id


def leads_nowhere(request: Request) -> bool:
    """Tell whether a request is for a tunnel that leads nowhere."""
    return request.path.rpartition("/")[0] == PROBE_PATH


def as_upgrade(request: Request) -> Request:
    """Make of a request that opens a tunnel by any method one for ``upgrade``."""
    token = request.header("dwcloud-upgrade") or ""
    path, _, _ = request.path.rpartition("/")
    kept = (h for h in request.headers if h[0] not in (b"connection", b"upgrade"))
    return attrs.evolve(
        request,
        method="GET",
        path=f"{path}/{UPGRADE}",
        query="",
        headers=(
            *kept,
            (b"connection", b"upgrade"),
            (b"upgrade", token.encode("latin-1")),
        ),
        body=b"",
    )
