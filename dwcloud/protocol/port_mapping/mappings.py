"""What a port mapping is, whatever protocol asks for it."""

from __future__ import annotations

import enum

import attrs

from dwcloud.protocol.addresses import Address

__all__ = ["LEASE", "Grant", "MappedPort", "Transport"]

LEASE = 3600.0
"""Seconds that a router is asked to keep a mapping; renewed at half of that."""


class Transport(enum.Enum):
    """A transport protocol, by its number in IP (IANA protocol numbers)."""

    TCP = 6
    UDP = 17


@attrs.frozen
class MappedPort:
    """What is to be mapped: a port of this machine."""

    transport: Transport
    port: int

    def __str__(self) -> str:
        return f"{self.transport.name} port {self.port}"


@attrs.frozen
class Grant:
    """A mapping that a router made.

    :ivar external: the router's address and port that lead here.
    :ivar lifetime: seconds until the router forgets it.
    """

    external: Address
    lifetime: float
