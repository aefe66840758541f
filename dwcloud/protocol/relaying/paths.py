"""The relay's HTTP resources (docs/protocol/relaying)."""

from __future__ import annotations

import re

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.names import PeerName

__all__ = [
    "CLIENT_HEADER",
    "CLIENT_TOKEN",
    "CONNECT_SESSION_HEADER",
    "SERVER_TOKEN",
    "STATISTICS_PATH",
    "ClientSessionsResource",
    "ClientTunnelResource",
    "FrontPage",
    "HealthResource",
    "MetricsResource",
    "NewTunnelResource",
    "Resource",
    "ServerTunnelResource",
    "StatisticsResource",
    "client_sessions_path",
    "client_tunnel_path",
    "new_tunnel_path",
    "parse_path",
    "server_tunnel_path",
]

SERVER_TOKEN = "dwcloud-relay"
"""``Upgrade`` token of a server's idle connection."""

CLIENT_TOKEN = "dwcloud-relay"
"""``Upgrade`` token of a client's tunnel."""

CLIENT_HEADER = "DWCloud-Client"
"""Field in which a client says how it calls itself, escaped as in a URL."""

CONNECT_SESSION_HEADER = "DWCloud-Connect-Session"
"""Field with the name of a client's connect session in logs."""

STATISTICS_PATH = "/relay/statistics/"

_SERVER = "/relay/server"
_SESSION = "/relay/client_session"
_METHOD = re.compile(r"[a-z_]{1,32}")
_SESSION_ID = re.compile(r"[0-9a-f]{32}")


@attrs.frozen
class ServerTunnelResource:
    """Where a server offers idle connections: ``.../tunnel/{method}``."""

    name: PeerName
    method: str


@attrs.frozen
class ClientSessionsResource:
    """Where a client asks for a session with a server, or any of a system."""

    name: PeerName


@attrs.frozen
class NewTunnelResource:
    """Where a client opens a tunnel of a session that begins with it."""

    name: PeerName
    method: str


@attrs.frozen
class ClientTunnelResource:
    """Where a client opens tunnels of its session."""

    session_id: str
    method: str


@attrs.frozen
class StatisticsResource:
    """Figures about the relay."""


@attrs.frozen
class MetricsResource:
    """Figures for a program that collects them."""


@attrs.frozen
class HealthResource:
    """Whether the relay does its work."""


@attrs.frozen
class FrontPage:
    """What a browser asks for that found its way to the relay."""


Resource = (
    ServerTunnelResource
    | ClientSessionsResource
    | ClientTunnelResource
    | NewTunnelResource
    | StatisticsResource
    | MetricsResource
    | HealthResource
    | FrontPage
)


def server_tunnel_path(name: PeerName) -> str:
    """Path of a server's tunnels, without the tunnelling method."""
    return f"{_SERVER}/{name}/tunnel"


def client_sessions_path(name: PeerName) -> str:
    """Path to POST to for a session with ``name``."""
    return f"{_SERVER}/{name}/client_sessions/"


def new_tunnel_path(name: PeerName) -> str:
    """Path of tunnels to ``name`` with sessions of their own, without the method."""
    return f"{_SERVER}/{name}/client_tunnel"


def client_tunnel_path(session_id: str) -> str:
    """Path of a session's tunnels, without the tunnelling method."""
    return f"{_SESSION}/{session_id}/tunnel"


def parse_path(path: str) -> Resource:
    """Read the path of a request.

    :raises RemoteProtocolError: with 404 if it names nothing, with a sentence that
        tells a person what is wrong.
    """
    match path.split("/")[1:]:
        case ["relay", "server", name, "tunnel", method] if _METHOD.fullmatch(method):
            server = _parse_name(name)
            if server.server is None:
                raise RemoteProtocolError(
                    f"the name {name} is that of a system: a server listens as "
                    "SERVER.SYSTEM",
                    404,
                )
            return ServerTunnelResource(server, method)
        case ["relay", "server", name, "client_sessions", *rest] if rest in ([], [""]):
            return ClientSessionsResource(_parse_name(name))
        case ["relay", "server", name, "client_tunnel", method] if _METHOD.fullmatch(
            method
        ):
            return NewTunnelResource(_parse_name(name), method)
        case ["relay", "client_session", session_id, "tunnel", method] if (
            _SESSION_ID.fullmatch(session_id) and _METHOD.fullmatch(method)
        ):
            return ClientTunnelResource(session_id, method)
        case ["relay", "statistics", *rest] if rest in ([], [""]):
            return StatisticsResource()
        case ["metrics"]:
            return MetricsResource()
        case ["health"]:
            return HealthResource()
        case [""]:
            return FrontPage()
    raise RemoteProtocolError(f"there is nothing at {path} here", 404)


def _parse_name(text: str) -> PeerName:
    try:
        return PeerName.parse(text)
    except ValueError as e:
        raise RemoteProtocolError(str(e), 404) from e
