"""Letting the kernel find out that the far end of a TCP connection is gone."""

from __future__ import annotations

import socket
from typing import Any

__all__ = ["watch_busy_connection", "watch_idle_connection"]

_USER_TIMEOUT_MS = 60_000
_PROBE_AFTER = 60
_PROBE_EVERY = 15
_PROBES = 4


def _tcp_socket(transport: Any) -> socket.socket | None:
    """The socket below a transport, through TLS, if it is a TCP socket."""
    below = transport
    if getattr(transport, "disconnected", False):
        return None
    while below is not None:
        handle = below.getHandle() if hasattr(below, "getHandle") else None
        if isinstance(handle, socket.socket):
            tcp = handle.type == socket.SOCK_STREAM and handle.family in (
                socket.AF_INET,
                socket.AF_INET6,
            )
            return handle if tcp else None
        below = getattr(below, "transport", None)
    return None


def _set(tcp: socket.socket, option: str, value: int) -> None:
    number = getattr(socket, option, None)
    if number is not None:
        tcp.setsockopt(socket.IPPROTO_TCP, number, value)


def watch_idle_connection(transport: Any) -> None:
    """Break the connection when what we write stays unacknowledged for 60 s.

    For a connection on which little is said, which always gets read.
    """
    tcp = _tcp_socket(transport)
    if tcp is not None:
        _set(tcp, "TCP_USER_TIMEOUT", _USER_TIMEOUT_MS)


def watch_busy_connection(transport: Any) -> None:
    """Break the connection when probes on a silent one stay unanswered for 120 s.

    A far end that reads slowly or not at all does not count as gone.
    """
    tcp = _tcp_socket(transport)
    if tcp is not None:
        # The user timeout would count time with a closed window, too.
        _set(tcp, "TCP_USER_TIMEOUT", 0)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        _set(tcp, "TCP_KEEPIDLE", _PROBE_AFTER)
        _set(tcp, "TCP_KEEPINTVL", _PROBE_EVERY)
        _set(tcp, "TCP_KEEPCNT", _PROBES)
