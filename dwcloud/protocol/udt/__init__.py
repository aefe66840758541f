"""UDT version 4: reliable streams over UDP, as spoken by the reference library 4.11.

A :class:`~dwcloud.protocol.udt.multiplexer.Multiplexer` stands for one UDP port. It
is driven by received datagrams, by its timer and by the calls of the program, and it
answers with datagrams to send and with events; it never looks at a clock or socket.
"""

from dwcloud.protocol.udt.configuration import Configuration, SocketType
from dwcloud.protocol.udt.connection import Connection
from dwcloud.protocol.udt.events import (
    CloseReason,
    Connected,
    ConnectionClosed,
    DataAvailable,
    Event,
    IncomingConnection,
    SendBufferLow,
)
from dwcloud.protocol.udt.message_connection import MessageConnection
from dwcloud.protocol.udt.multiplexer import Multiplexer
from dwcloud.protocol.udt.states import State
from dwcloud.protocol.udt.statistics import Statistics
from dwcloud.protocol.udt.trace import TraceEvent
from dwcloud.protocol.udt.transmit import Transmit

__all__ = [
    "CloseReason",
    "Configuration",
    "Connected",
    "Connection",
    "ConnectionClosed",
    "DataAvailable",
    "Event",
    "IncomingConnection",
    "MessageConnection",
    "Multiplexer",
    "SendBufferLow",
    "SocketType",
    "State",
    "Statistics",
    "TraceEvent",
    "Transmit",
]
