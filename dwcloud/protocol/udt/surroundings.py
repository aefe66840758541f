"""What the connections of one port share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from dwcloud.protocol.udt.configuration import Configuration
from dwcloud.protocol.udt.events import Event
from dwcloud.protocol.udt.trace import Trace

if TYPE_CHECKING:
    from dwcloud.protocol.udt.connection import Connection

__all__ = ["Surroundings"]


@attrs.frozen
class Surroundings:
    """What a multiplexer lends to each of its connections.

    :ivar random: returns a number from 0 to 1.
    :ivar emit: takes an event for the program.
    :ivar wake: told that a connection has something to send or other timers.
    :ivar trace: an optional recorder.
    """

    configuration: Configuration
    random: Callable[[], float]
    emit: Callable[[Event], None]
    wake: Callable[[Connection], None]
    trace: Trace | None = None
