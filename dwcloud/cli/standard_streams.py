"""Standard input and output as one transport, whatever they are connected to.

Twisted's own ``stdio`` closes neither a pipe nor a socket when only the writing
direction ends, so that the reader of our output would wait for ever; and it has no
abort. Both matter to a program that stands between two others.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    ITransport,
)
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.cli.failures import OutputLost

__all__ = ["StandardStreams", "StreamAddress"]

_READ_SIZE = 65536
_AGAIN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


@implementer(IAddress)
class StreamAddress:
    """The address of a pipe, a file or a terminal: it has none."""


class _Source(FileDescriptor):
    """The descriptor that is read."""

    def __init__(
        self,
        reactor: Any,
        descriptor: int,
        received: Callable[[bytes], None],
        ended: Callable[[Failure], None],
    ) -> None:
        super().__init__(reactor)
        self._descriptor = descriptor
        self._received = received
        self._ended = ended
        self.connected = 1

    def fileno(self) -> int:
        return self._descriptor

    def doRead(self) -> Exception | None:
        try:
            data = os.read(self._descriptor, _READ_SIZE)
        except OSError as e:
            return None if e.errno in _AGAIN else CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self._received(data)
        return None

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self._ended(reason)


class _Sink(FileDescriptor):
    """The descriptor that is written; the base class buffers and paces producers.

    :ivar error: what is wrong with it, when it cannot be written.
    """

    error: str | None = None

    def __init__(
        self,
        reactor: Any,
        descriptor: int,
        ended: Callable[[Failure], None],
    ) -> None:
        super().__init__(reactor)
        self._descriptor = descriptor
        self._ended = ended
        self.connected = 1
        if _is_write_only_pipe(descriptor):
            # Nothing is ever read: the event says that the reader went away.
            self.startReading()  # type: ignore[no-untyped-call]

    def fileno(self) -> int:
        return self._descriptor

    def doRead(self) -> Exception | None:
        return CONNECTION_LOST

    def writeSomeData(self, data: bytes) -> int | Exception:
        try:
            return os.write(self._descriptor, data)
        except OSError as e:
            if e.errno in _AGAIN:
                return 0
            if e.errno != errno.EPIPE:
                self.error = e.strerror
            return CONNECTION_LOST

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self._ended(reason)


def _is_write_only_pipe(descriptor: int) -> bool:
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        return False
    try:
        os.read(descriptor, 0)
    except OSError:
        return True
    return False


@implementer(ITransport, IConsumer, IPushProducer)
class StandardStreams:
    """A transport that reads one descriptor and writes another.

    Both may be pipes, terminals, regular files or sockets, and may be the same
    socket. They are made non-blocking meanwhile and left as they were found.

    :param protocol: is connected at once; an ``IHalfCloseableProtocol`` is told
        separately when each direction ends.
    :param source: file descriptor to read.
    :param sink: file descriptor to write.
    :ivar paused: whether the input is left unread, for want of a taker.
    """

    def __init__(
        self, reactor: Any, protocol: IProtocol, source: int = 0, sink: int = 1
    ) -> None:
        self._protocol = protocol
        self._half_closeable: IHalfCloseableProtocol | None = IHalfCloseableProtocol(
            protocol, None
        )
        self._blocking = {fd: os.get_blocking(fd) for fd in (source, sink)}
        for descriptor in self._blocking:
            os.set_blocking(descriptor, False)
        self._lost = False
        self._closing = False
        self.paused = False
        # Twisted leaves the methods of descriptors without types.
        self._sink: Any = _Sink(reactor, sink, self._sink_ended)
        self._source: Any = _Source(
            reactor, source, protocol.dataReceived, self._source_ended
        )
        self._source.startReading()  # type: ignore[no-untyped-call]
        protocol.makeConnection(self)

    # What the descriptors tell.

    def _source_ended(self, reason: Failure) -> None:
        self._source = None
        if self._lost:
            return
        if self._half_closeable is None:
            self.loseConnection()
        elif not self._closing:
            self._half_closeable.readConnectionLost()

    def _sink_ended(self, reason: Failure) -> None:
        sink, self._sink = self._sink, None
        assert sink is not None
        self._restore()
        _end_writing(sink.fileno())
        if self._lost:
            return
        if sink.error is not None:
            self._connection_lost(Failure(OutputLost(sink.error)))
        elif self._closing:
            self._connection_lost(reason)
        elif self._half_closeable is None or not sink.disconnecting:
            # Whatever the reactor calls it, we did not ask for it.
            self._connection_lost(Failure(OutputLost("nobody reads the output")))
        else:
            self._half_closeable.writeConnectionLost()

    def _connection_lost(self, reason: Failure) -> None:
        self._lost = True
        source, sink = self._source, self._sink
        for end in (source, sink):
            if end is not None:
                end.stopReading()
                end.stopWriting()
        self._restore()
        self._protocol.connectionLost(reason)

    def _restore(self) -> None:
        for descriptor, blocking in self._blocking.items():
            os.set_blocking(descriptor, blocking)
        if self._source is not None and not self._lost and not self._closing:
            # Still in use: the terminal or socket may be one and the same.
            os.set_blocking(self._source.fileno(), False)

    # ITransport

    def write(self, data: bytes) -> None:
        """Write, or queue what cannot be written yet."""
        if self._sink is not None:
            self._sink.write(data)

    def writeSequence(self, data: Any) -> None:
        """Write all pieces in order."""
        self.write(b"".join(data))

    def loseWriteConnection(self) -> None:
        """End the output after all that was written."""
        if self._sink is not None:
            self._sink.loseConnection()

    def loseConnection(self) -> None:
        """Read no more, and end the output after all that was written."""
        if self._closing or self._lost:
            return
        self._closing = True
        self.pauseProducing()
        if self._sink is not None:
            self._sink.loseConnection()
        else:
            self._connection_lost(Failure(CONNECTION_DONE))

    def abortConnection(self) -> None:
        """Close; what came in already is still written, as nobody could know of it."""
        if self._sink is not None:
            self._sink.unregisterProducer()
        self.loseConnection()

    def getPeer(self) -> IAddress:
        """Whatever is at the other end of the streams."""
        return StreamAddress()

    def getHost(self) -> IAddress:
        """The streams."""
        return StreamAddress()

    # IConsumer and IPushProducer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause ``producer`` while the output is not taken."""
        if self._sink is None:
            producer.stopProducing()
        else:
            self._sink.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """The producer has written its last."""
        if self._sink is not None:
            self._sink.unregisterProducer()

    def pauseProducing(self) -> None:
        """Read no more until :meth:`resumeProducing`."""
        self.paused = True
        if self._source is not None:
            self._source.stopReading()

    def resumeProducing(self) -> None:
        """Read again."""
        self.paused = False
        if self._source is not None and not self._closing:
            self._source.startReading()

    def stopProducing(self) -> None:
        """Read no more: close."""
        self.loseConnection()


def _end_writing(descriptor: int) -> None:
    """Let the reader of a descriptor see the end of what we write."""
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        # Others may hold the same socket: closing alone would tell nobody.
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            try:
                connection.shutdown(socket.SHUT_WR)
            except OSError as e:
                if e.errno != errno.ENOTCONN:
                    raise
        return
    # The number stays taken, so that no later file gets what is meant for the output.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
