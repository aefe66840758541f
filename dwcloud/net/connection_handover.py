"""Giving an open connection to another process of this machine (unix(7), SCM_RIGHTS).

The processes are joined by pairs of datagram sockets: a message arrives whole or not at
all, several may write into one pair, and what is in it outlives a reader that dies.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import (
    IDelayedCall,
    IPullProducer,
    IReadDescriptor,
    IWriteDescriptor,
)
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Departure", "Inbox", "Outbox", "loopback_pair"]

_LARGEST = 1 << 18  # bytes of a message; sockets have room for less by default
_IN_A_TURN = 32
_MOST_WAITING = 1_000
_WRITE_WITHIN = 5.0  # seconds for a far end to take the last answer before it departs


class _SocketEnd:
    """What the reactor wants to know of either end."""

    def __init__(self, reactor: Any, end: socket.socket) -> None:
        end.setblocking(False)
        self._reactor = reactor
        self._end = end

    def fileno(self) -> int:
        """The socket."""
        return self._end.fileno()

    def logPrefix(self) -> str:
        """Who it is, for the log."""
        return type(self).__name__

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops."""


@implementer(IReadDescriptor)
class Inbox(_SocketEnd):
    """Receives messages, each with a descriptor or none.

    :param received: called with the message and the descriptor, which it has to close.
    """

    def __init__(
        self,
        reactor: Any,
        end: socket.socket,
        received: Callable[[bytes, int | None], None],
    ) -> None:
        super().__init__(reactor, end)
        self._received = received

    def start(self) -> None:
        """Receive from now on."""
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Receive nothing more; the socket stays open."""
        self._reactor.removeReader(self)

    def doRead(self) -> None:
        """There are messages."""
        for _ in range(_IN_A_TURN):
            try:
                data, descriptors, _, _ = socket.recv_fds(
                    self._end, _LARGEST, 1, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            self._received(data, descriptors[0] if descriptors else None)


@implementer(IWriteDescriptor)
class Outbox(_SocketEnd):
    """Sends messages, in order, when there is room."""

    log = Logger()

    def __init__(self, reactor: Any, end: socket.socket) -> None:
        super().__init__(reactor, end)
        self._waiting: deque[tuple[bytes, int | None]] = deque()

    def send(self, data: bytes, descriptor: int | None = None) -> None:
        """Send a message.

        :param descriptor: goes with it, and is closed here.
        :raises OSError: if it cannot be sent.
        """
        if len(self._waiting) >= _MOST_WAITING:
            _close(descriptor)
            raise BlockingIOError(f"{_MOST_WAITING} messages wait already")
        if self._waiting or not self._try(data, descriptor):
            if not self._waiting:
                self._reactor.addWriter(self)
            self._waiting.append((data, descriptor))

    def _try(self, data: bytes, descriptor: int | None) -> bool:
        """Send at once; False if there is no room."""
        try:
            socket.send_fds(
                self._end, [data], [] if descriptor is None else [descriptor]
            )
        except BlockingIOError:
            return False
        except OSError:
            _close(descriptor)
            raise
        _close(descriptor)
        return True

    def doWrite(self) -> None:
        """There is room."""
        while self._waiting:
            try:
                if not self._try(*self._waiting[0]):
                    return
            except OSError as e:
                self.log.warn("a message to another worker is lost: {reason}", reason=e)
            self._waiting.popleft()
        self._reactor.removeWriter(self)


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


@implementer(IPullProducer)
class Departure:
    """Takes a connection out of this process when all that it had to say is written.

    Nothing is read from the moment of creation.

    :param transport: of the connection; it has a socket of its own.
    :param leave: called with a copy of the descriptor, which it closes or gives on. If
        it raises OSError the connection is broken.
    """

    log = Logger()

    def __init__(self, transport: Connection, leave: Callable[[int], None]) -> None:
        # Twisted's stubs do not know all methods of a transport.
        self._transport: Any = transport
        self._leave = leave
        self._registered = False
        self._deadline: IDelayedCall = cast(Any, transport.reactor).callLater(
            _WRITE_WITHIN, self._transport.abortConnection
        )
        self._transport.pauseProducing()
        # A pull producer is asked once at registration, then when the buffer is empty.
        self._transport.registerProducer(self, False)
        self._registered = True
        self._transport.startWriting()

    def resumeProducing(self) -> None:
        """All is written."""
        if not self._registered:
            return
        self._deadline.cancel()
        transport = self._transport
        transport.unregisterProducer()
        try:
            self._leave(os.dup(transport.fileno()))
        except OSError as e:
            self.log.warn("a connection cannot be handed over: {reason}", reason=e)
            transport.abortConnection()
            return
        transport.stopReading()
        transport.stopWriting()
        # What Twisted does to a socket at its end would reach the far end: it gets
        # another one to do it to.
        with socket.socket() as unconnected:
            os.dup2(unconnected.fileno(), transport.fileno(), inheritable=False)
        transport.abortConnection()

    def stopProducing(self) -> None:
        """The connection is lost; its protocol is told."""
        if self._deadline.active():
            self._deadline.cancel()


def loopback_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection within this machine.

    Unlike a pair of UNIX sockets it tells a reset from an end.

    :raises OSError: if there is none to be had, or another program came between.
    """
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        near = socket.create_connection(listener.getsockname())
        try:
            far, address = listener.accept()
            if address != near.getsockname():
                far.close()
                raise ConnectionError("another program connected to the loopback pair")
        except OSError:
            near.close()
            raise
    for end in (near, far):
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far
