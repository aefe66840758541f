"""One direction of a joined pair of sockets, past the buffers of their transports.

Both Twisted transports stay what the reactor watches, and they stay responsible for
their sockets: a direction stands in for ``doRead`` of the source and ``doWrite`` of the
sink only, in the way in which Twisted's own ``abortConnection`` does. Registration, log
prefix, closing and ``connectionLost`` are Twisted's as before. At the end of the
source's direction it gives both methods back, and it is Twisted that reads the end and
tells the protocol.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import (
    IPullProducer,
    IReactorFDSet,
    IReactorSocket,
    ISSLTransport,
)
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from zope.interface import implementer

__all__ = ["SocketDirection", "has_socket"]


def has_socket(protocol: Protocol) -> bool:
    """Tell whether the connection of ``protocol`` is a socket and nothing else.

    That is: the protocol gets the very bytes of a stream socket, with no TLS and no
    wrapper between, and a reactor with file descriptors watches it.
    """
    transport: Any = protocol.transport
    if not isinstance(transport, Connection):
        return False
    # A connection that has ended forgets its protocol.
    receiver: Any = getattr(transport, "protocol", None)
    reactor: Any = transport.reactor
    return (
        receiver is protocol
        and not ISSLTransport.providedBy(transport)
        and IReactorFDSet.providedBy(reactor)
        and IReactorSocket.providedBy(reactor)
    )


def _lost() -> Exception:
    return CONNECTION_LOST


@implementer(IPullProducer)
class SocketDirection(ABC):
    """One direction of a pair of sockets, from :meth:`start` to :meth:`stop`.

    What the sink's transport has still to write is written first. While the sink takes
    nothing the source is not read.

    :param counted: called with the number of bytes whenever some were read.
    """

    def __init__(
        self, source: Connection, sink: Connection, counted: Callable[[int], None]
    ) -> None:
        # Twisted's stubs do not know that the methods can be replaced.
        self._source: Any = source
        self._sink: Any = sink
        self._counted = counted
        self._waiting = False
        # One object each, by which to know later whether the method is still ours.
        self._do_read, self._do_write = self._read, self._write

    def start(self) -> None:
        """Begin as soon as the sink's transport has nothing to write any more."""
        # A pull producer is asked once at registration, then when the buffer is empty.
        self._sink.registerProducer(self, False)
        self._waiting = True
        self._sink.startWriting()

    def resumeProducing(self) -> None:
        """Take over: the sink's transport has written all it had."""
        if self._waiting:
            self._waiting = False
            self._sink.unregisterProducer()
            self._source.doRead = self._do_read
            self._sink.doWrite = self._do_write
            self._source.resumeProducing()

    def stopProducing(self) -> None:
        """The sink is lost before the beginning; its protocol is told."""
        self._waiting = False

    def stop(self) -> None:
        """Give both transports back; what is held goes to the sink's buffer."""
        if self._waiting:
            self._waiting = False
            self._sink.unregisterProducer()
        # An aborted transport has other stand-ins already.
        if self._source.__dict__.get("doRead") is self._do_read:
            del self._source.doRead
        if self._sink.__dict__.get("doWrite") is self._do_write:
            del self._sink.doWrite
        if self._sink.connected:
            held = self._take_held()
            if held:
                self._sink.write(held)
        else:
            self._drop_held()

    @abstractmethod
    def _take_held(self) -> bytes:
        """Return what was read and is not yet written, and hold it no longer."""

    @abstractmethod
    def _drop_held(self) -> None:
        """Hold nothing any longer, as nobody will write it."""

    @abstractmethod
    def _write_held(self) -> None:
        """Write all that is held.

        :raises BlockingIOError: if the sink does not take all of it now.
        :raises OSError: if it is broken.
        """

    # Stand-ins for methods of the transports; results as IReadWriteDescriptor has them

    @abstractmethod
    def _read(self) -> Exception | None:
        """The source can be read."""

    def _write(self) -> Exception | None:
        """The sink takes more."""
        try:
            self._write_held()
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        self._sink.stopWriting()
        self._source.resumeProducing()
        return None

    def _wait_for_sink(self) -> None:
        """Read no more until all that is held is written."""
        self._source.pauseProducing()
        self._sink.startWriting()

    def _break_sink(self) -> None:
        """Let the sink's connection be lost in its next turn.

        The system tells of a reset once, and it was told to the source's turn. Who
        reads from the sink after that sees its direction end in good order.
        """
        self._sink.doRead = self._sink.doWrite = _lost
        self._wait_for_sink()

    def _end(self) -> Exception | None:
        """The source's direction has ended."""
        self.stop()
        # The transport reads the end once more, and acts on it.
        result: Exception | None = self._source.doRead()
        return result
