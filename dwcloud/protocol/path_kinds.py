"""The kinds of paths between a client and a server."""

from __future__ import annotations

import enum

__all__ = ["PathKind"]


class PathKind(enum.StrEnum):
    """How the bytes of a stream travel; see docs/design.rst."""

    LAN = "lan"
    TCP = "tcp"
    UDP = "udp"
    RELAY = "relay"
