"""Which of a relay's processes a request belongs to.

All that belongs together has to meet in one process, its home, whichever process the
connections came to: a server's idle connections and its clients, who name its system;
a session and its tunnels, by the session's id; the requests of one tunnel, by the
tunnel's. Only numbers decide, so that no process has to ask another one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qsl

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.relaying.paths import (
    ClientSessionsResource,
    ClientTunnelResource,
    NewTunnelResource,
    ServerTunnelResource,
    parse_path,
)

__all__ = ["home_of", "session_bytes"]

_TUNNEL_ID = re.compile(r"[0-9a-f]{32}")


def home_of(target: str, workers: int) -> int | None:
    """Return the number of the process that answers, None if any may.

    :param target: path and query of the request.
    :param workers: how many processes there are; they are numbered from 0.
    """
    path, _, query = target.partition("?")
    try:
        resource = parse_path(path)
    except RemoteProtocolError:
        # Probes lead nowhere, but their requests have to meet, too.
        tunnel_id = dict(parse_qsl(query)).get("tunnel", "")
        if not _TUNNEL_ID.fullmatch(tunnel_id):
            return None
        return int(tunnel_id, 16) % workers
    match resource:
        case (
            ServerTunnelResource(name=name)
            | ClientSessionsResource(name=name)
            | NewTunnelResource(name=name)
        ):
            # The last bits are those of a hash; the first tell the kind of GUID.
            return name.system.int % workers
        case ClientTunnelResource(session_id=session_id):
            return int(session_id, 16) % workers
    return None


def session_bytes(
    number: int, workers: int, random_bytes: Callable[[int], bytes]
) -> Callable[[int], bytes]:
    """Return a source of random session ids whose home is the process ``number``.

    :param random_bytes: returns as many random bytes as asked for.
    """

    def draw(length: int) -> bytes:
        while True:
            drawn = random_bytes(length)
            if int.from_bytes(drawn, "big") % workers == number:
                return drawn

    return draw
