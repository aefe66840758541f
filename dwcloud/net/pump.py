"""Joining two connections so that each receives what the other sends.

Where both are plain sockets their bytes are spliced (:mod:`dwcloud.net.splice`), or
copied where the kernel does not do that (:mod:`dwcloud.net.copying`); between all
others, TLS and streams of other kinds, they are pumped through producers and consumers.
Ends, errors and limits are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.net.copying import Copying
from dwcloud.net.freed_memory import keep_freed_memory
from dwcloud.net.socket_direction import SocketDirection, has_socket
from dwcloud.net.splice import Splice, can_splice
from dwcloud.net.tls_half_close import keep_writing_after_close_notify

__all__ = ["PumpEnd", "join"]

_AT_ONCE = 1 << 18  # bytes; four times Twisted's, for fewer turns of the reactor


@implementer(IHalfCloseableProtocol)
class PumpEnd(Protocol):
    """One of two joined connections.

    Nothing is read from either before both are connected. A reader that is slow slows
    the far sender down, the end of one direction ends just that direction, and a
    connection that breaks breaks the other.

    :ivar bytes_received: how much came in on this connection.
    :ivar spliced: whether the kernel passes that on.
    """

    other: PumpEnd | None = None
    _direction: SocketDirection | None = None  # from here to the other

    def __init__(self) -> None:
        self.bytes_received = 0
        self.spliced = False
        self.lost: Failure | None = None
        self._early: list[bytes] = []
        self._read_ended = False
        self._write_ended = False

    def connectionMade(self) -> None:
        """Wait, reading nothing, until the other one is there."""
        if self.other is None:
            cast(IPushProducer, self.transport).pauseProducing()

    def joined(self, other: PumpEnd) -> None:
        """Pass data on to ``other`` from now on; both are connected."""
        self.other = other
        keep_writing_after_close_notify(self.transport, self.readConnectionLost)

    def start_pump(self) -> None:
        """Pass on through Python."""
        assert self.other is not None
        keep_freed_memory()
        transport: Any = self.transport
        if isinstance(transport, Connection):
            # Read in a turn, and the length from which a writer's buffer is full.
            transport.bufferSize = _AT_ONCE
        # Each connection is the producer of the other: writing pauses reading.
        cast(IConsumer, self.other.transport).registerProducer(
            cast(IPushProducer, self.transport), True
        )

    def resume_pump(self) -> None:
        """Begin to read what is to be passed on through Python."""
        cast(IPushProducer, self.transport).resumeProducing()

    def start_splice(self) -> None:
        """Pass on inside the kernel, as soon as what is to come first is written."""
        self.spliced = True
        self._start(partial(Splice, fallback=self._splice_failed))

    def start_copying(self) -> None:
        """Pass on through memory, as soon as what is to come first is written."""
        self._start(Copying)

    def _start(self, make: Callable[..., SocketDirection]) -> None:
        assert self.other is not None
        self._direction = make(self.transport, self.other.transport, self._count)
        self._direction.start()

    def _splice_failed(self) -> None:
        self.spliced = False
        self.start_copying()

    def _count(self, count: int) -> None:
        self.bytes_received += count

    def _stop_direction(self) -> None:
        direction, self._direction = self._direction, None
        if direction is not None:
            direction.stop()

    def pass_on_early(self) -> None:
        """Pass on what arrived before there was another one."""
        early, self._early = self._early, []
        for data in early:
            self.dataReceived(data)

    def dataReceived(self, data: bytes) -> None:
        """Pass on."""
        if self.other is None:
            # A paused TLS connection still delivers what it has read from below.
            self._early.append(data)
            return
        assert self.other.transport is not None
        self.bytes_received += len(data)
        self.other.transport.write(data)

    def readConnectionLost(self) -> None:
        """This direction has ended: tell the other connection so."""
        self._read_ended = True
        if self.other is not None:
            self.other.end_writing()
            self._close_if_over()

    def end_writing(self) -> None:
        """No more is to be written to this connection."""
        if self._write_ended or self.lost is not None:
            return
        self._write_ended = True
        cast(IConsumer, self.transport).unregisterProducer()
        if ISSLTransport.providedBy(self.transport):
            # This sends close_notify: what the far end still sends is read.
            cast(ITCPTransport, self.transport).loseConnection()
        else:
            cast(ITCPTransport, self.transport).loseWriteConnection()

    def writeConnectionLost(self) -> None:
        """The far end reads no more, or all that we had is written."""

    def _close_if_over(self) -> None:
        assert self.other is not None
        if self._read_ended and self.other._read_ended:
            for end in (self, self.other):
                if end.lost is None:
                    cast(ITCPTransport, end.transport).loseConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """End the other one in the same way."""
        self.lost = reason
        other = self.other
        if other is None:
            return
        self._stop_direction()
        other._stop_direction()
        if other.lost is not None:
            return
        transport = cast(Any, other.transport)
        if not reason.check(ConnectionDone):
            # Nothing before it: what was truncated must not end in good order.
            transport.abortConnection()
            return
        if not other._write_ended:
            other._write_ended = True
            transport.unregisterProducer()
        transport.loseConnection()


def join(one: PumpEnd, two: PumpEnd) -> None:
    """Join two connected ends; if either is lost already, the other ends too."""
    for end, other in ((one, two), (two, one)):
        if end.lost is not None:
            if other.lost is None:
                cast(Any, other.transport).abortConnection()
            return
    one.joined(two)
    two.joined(one)
    if _both(can_splice, one, two):
        start = PumpEnd.start_splice
    elif _both(has_socket, one, two):
        start = PumpEnd.start_copying
    else:
        start = PumpEnd.resume_pump
        for end in (one, two):
            end.start_pump()
    for end in (one, two):
        end.pass_on_early()
    for end in (one, two):
        # What arrived as the end of a direction before there was anyone to tell.
        if end._read_ended:
            end.readConnectionLost()
        elif end.lost is None:
            start(end)


def _both(can: Callable[[PumpEnd], bool], *ends: PumpEnd) -> bool:
    # Who looks at the data has to be given them.
    return all(type(e).dataReceived is PumpEnd.dataReceived and can(e) for e in ends)
