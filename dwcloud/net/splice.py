"""Moving bytes between two sockets inside the kernel (Linux, splice(2)).

A :class:`Splice` is one direction of a joined pair. The bytes go from the one socket
into a pipe and from the pipe into the other socket; Python never holds them.

Both Twisted transports stay what the reactor watches, and they stay responsible for
their sockets: the splice stands in for ``doRead`` of the source and ``doWrite`` of the
sink only, in the way in which Twisted's own ``abortConnection`` does. Registration, log
prefix, closing and ``connectionLost`` are Twisted's as before. At the end of the
source's direction the splice gives both methods back, and it is Twisted that reads the
end and tells the protocol.
"""

from __future__ import annotations

import contextlib
import errno
import os
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

with contextlib.suppress(ImportError):  # without POSIX there is no splice either
    import fcntl

__all__ = ["PipePool", "Splice", "can_splice", "has_socket"]

_SPARE_PIPES = 16
_LARGE_PIPES = 32  # they may hold 32 MiB; a user may have 64 MiB of pipes
_LARGE = 1 << 20  # what Linux lets anybody have
_AT_ONCE = 1 << 20  # bytes in a turn, so that one fast pair does not hold up the others
_MORE = 1 << 16  # a shorter read has emptied the socket: no need to look again

# The kernel, or a filter of system calls, does not splice this kind of socket.
_NOT_SUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})

_FLAGS = 0
if hasattr(os, "splice"):
    _FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


def can_splice(protocol: Protocol) -> bool:
    """Tell whether the connection of ``protocol`` is a socket that can be spliced."""
    return hasattr(os, "splice") and has_socket(protocol)


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


class PipePool:
    """Empty pipes to borrow.

    A splice has a pipe only while bytes are in it, so that idle pairs cost no file
    descriptors. The first 32 hold 1 MiB, by which most of a fast stream's time is the
    kernel's; they are lent in turn to all that move. When so many wait with readers
    that are slow, the others go on with 64 KiB, so that slow readers hold little.
    """

    def __init__(self) -> None:
        self._spare: list[tuple[int, int]] = []
        self._large: set[int] = set()

    def take(self) -> tuple[int, int]:
        """Return the reading and the writing end of an empty pipe.

        :raises OSError: if the process has too many open files.
        """
        if self._spare:
            return self._spare.pop()
        pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        if len(self._large) < _LARGE_PIPES:
            # The operator may allow less; 64 KiB will do then.
            with contextlib.suppress(OSError):
                fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, _LARGE)
                self._large.add(pipe[0])
        return pipe

    def give(self, pipe: tuple[int, int], *, empty: bool = True) -> None:
        """Take a pipe back; one that is not empty is closed."""
        if empty and len(self._spare) < _SPARE_PIPES:
            self._spare.append(pipe)
            return
        self._large.discard(pipe[0])
        for descriptor in pipe:
            os.close(descriptor)


_pipes = PipePool()


@implementer(IPullProducer)
class Splice:
    """One direction of a pair of sockets, from :meth:`start` to :meth:`stop`.

    What the sink's transport has still to write is written first. While the sink takes
    nothing the source is not read: what one pipe holds is all that is kept.

    :param counted: called with the number of bytes whenever some were read.
    :param fallback: called when this pair cannot be spliced after all; nothing is lost
        and the source is paused then.
    """

    def __init__(
        self,
        source: Connection,
        sink: Connection,
        counted: Callable[[int], None],
        fallback: Callable[[], None],
        pipes: PipePool = _pipes,
    ) -> None:
        # Twisted's stubs do not know that the methods can be replaced.
        self._source: Any = source
        self._sink: Any = sink
        self._counted = counted
        self._fallback = fallback
        self._pipes = pipes
        self._pipe: tuple[int, int] | None = None
        self._held = 0  # bytes in the pipe
        self._waiting = False
        self._in: int = source.fileno()
        self._out: int = sink.fileno()
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
        """Give both transports back; what is in the pipe goes to the sink's buffer."""
        if self._waiting:
            self._waiting = False
            self._sink.unregisterProducer()
        # An aborted transport has other stand-ins already.
        if self._source.__dict__.get("doRead") is self._do_read:
            del self._source.doRead
        if self._sink.__dict__.get("doWrite") is self._do_write:
            del self._sink.doWrite
        if self._held:
            assert self._pipe is not None
            if self._sink.connected:
                self._sink.write(os.read(self._pipe[0], self._held))
                self._held = 0
            else:
                self._pipes.give(self._pipe, empty=False)
                self._pipe = None
                self._held = 0
        self._release_pipe()

    # Stand-ins for methods of the transports; results as IReadWriteDescriptor has them

    def _read(self) -> Exception | None:
        """The source can be read."""
        left = _AT_ONCE
        try:
            pipe = self._pipe
            if pipe is None:
                pipe = self._pipe = self._pipes.take()
            while left >= _MORE:
                count = os.splice(self._in, pipe[1], left, flags=_FLAGS)
                if not count:
                    return self._end()
                self._held = count
                self._counted(count)
                if not self._pass_on():
                    return None
                if count < _MORE:
                    break
                left -= count
        except BlockingIOError:
            pass
        except OSError as e:
            if self._pipe is not None and e.errno not in _NOT_SUPPORTED:
                return CONNECTION_LOST
            self._fall_back()
            return None
        self._release_pipe()
        return None

    def _end(self) -> Exception | None:
        self.stop()
        # The transport reads the end once more, and acts on it.
        result: Exception | None = self._source.doRead()
        return result

    def _pass_on(self) -> bool:
        """Empty the pipe into the sink; False if it has to wait for that."""
        try:
            self._empty_pipe()
        except OSError as e:
            if e.errno in _NOT_SUPPORTED:
                raise
            # Full, or broken, which the sink's own turn finds out.
            self._source.pauseProducing()
            self._sink.startWriting()
            return False
        return True

    def _write(self) -> Exception | None:
        """The sink takes more."""
        try:
            self._empty_pipe()
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        self._release_pipe()
        self._sink.stopWriting()
        self._source.resumeProducing()
        return None

    def _empty_pipe(self) -> None:
        while self._held:
            assert self._pipe is not None
            self._held -= os.splice(self._pipe[0], self._out, self._held, flags=_FLAGS)

    def _release_pipe(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            self._pipes.give(pipe)

    def _fall_back(self) -> None:
        self._source.pauseProducing()
        self.stop()
        self._fallback()
