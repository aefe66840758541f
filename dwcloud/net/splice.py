"""Moving bytes between two sockets inside the kernel (Linux, splice(2)).

A :class:`Splice` is one direction of a joined pair. The bytes go from the one socket
into a pipe and from the pipe into the other socket; Python never holds them.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable

from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection

from dwcloud.net.socket_direction import SocketDirection, has_socket

with contextlib.suppress(ImportError):  # without POSIX there is no splice either
    import fcntl

__all__ = ["PipePool", "Splice", "can_splice"]

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


class Splice(SocketDirection):
    """One direction of a pair of sockets, through a pipe.

    What one pipe holds is all that is held while the sink takes nothing.

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
        super().__init__(source, sink, counted)
        self._fallback = fallback
        self._pipes = pipes
        self._pipe: tuple[int, int] | None = None
        self._held = 0  # bytes in the pipe
        self._in: int = source.fileno()
        self._out: int = sink.fileno()

    def _take_held(self) -> bytes:
        held = b""
        if self._held:
            assert self._pipe is not None
            held, self._held = os.read(self._pipe[0], self._held), 0
        self._release_pipe()
        return held

    def _drop_held(self) -> None:
        self._release_pipe()

    def _write_held(self) -> None:
        self._empty_pipe()
        self._release_pipe()

    def _read(self) -> Exception | None:
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

    def _pass_on(self) -> bool:
        """Empty the pipe into the sink; False if it has to wait for that."""
        try:
            self._empty_pipe()
        except BlockingIOError:
            self._wait_for_sink()
            return False
        except OSError as e:
            if e.errno in _NOT_SUPPORTED:
                raise
            self._break_sink()
            return False
        return True

    def _empty_pipe(self) -> None:
        while self._held:
            assert self._pipe is not None
            self._held -= os.splice(self._pipe[0], self._out, self._held, flags=_FLAGS)

    def _release_pipe(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            self._pipes.give(pipe, empty=not self._held)
        self._held = 0

    def _fall_back(self) -> None:
        self._source.pauseProducing()
        self.stop()
        self._fallback()
