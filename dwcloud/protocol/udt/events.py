"""What happened to a connection, as the program learns it from the multiplexer."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from dwcloud.protocol.udt.connection import Connection

__all__ = [
    "CloseReason",
    "Connected",
    "ConnectionClosed",
    "DataAvailable",
    "Event",
    "IncomingConnection",
    "SendBufferLow",
]


class CloseReason(enum.Enum):
    """Why a connection ended."""

    LOCAL = "closed by this side, everything acknowledged"
    PEER_SHUTDOWN = "closed by the peer"
    TIMED_OUT = "the peer did not answer the handshake"
    REJECTED = "the peer rejected the handshake"
    BROKEN = "the peer fell silent"
    ABORTED = "aborted by this side"
    PROTOCOL_ERROR = "the peer broke the protocol"


@attrs.frozen
class Event:
    """Something happened to :attr:`connection`."""

    connection: Connection


@attrs.frozen
class Connected(Event):
    """A connection that this side asked for (client or rendezvous) is up."""


@attrs.frozen
class IncomingConnection(Event):
    """The listener accepted a connection; it is up."""


@attrs.frozen
class DataAvailable(Event):
    """There is something to read.

    It comes once for each time the receive buffer turns from empty to non-empty, and
    again when a read left something behind and more has arrived.
    """


@attrs.frozen
class SendBufferLow(Event):
    """The send buffer had been above its limit and fell to the low-water mark."""


@attrs.frozen
class ConnectionClosed(Event):
    """The connection has ended; no other event follows for it.

    When the peer ended it, the event comes after all received data have been read.
    """

    reason: CloseReason
    """Who or what ended it."""

    detail: str = ""
    """A sentence for the log."""
