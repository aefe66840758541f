"""Readiness: tells Twisted's transports that their simulated sockets can be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import error, main
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IReadDescriptor,
    IWriteDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from .sockets import SimulatedSocket

__all__ = ["Readiness"]


class Readiness:
    """The part of ``select`` in a simulated reactor, level-triggered.

    :param call_soon: runs a function once the present call is over.
    """

    _log = Logger()

    def __init__(self, call_soon: Callable[[Callable[[], None]], None]) -> None:
        self._call_soon = call_soon
        self._readers: dict[int, IReadDescriptor] = {}
        self._writers: dict[int, IWriteDescriptor] = {}
        self._sockets: dict[int, SimulatedSocket] = {}
        self._to_look_at: dict[int, None] = {}
        self._is_scheduled = False

    # IReactorFDSet

    def add_reader(self, reader: IReadDescriptor) -> None:
        """Tell ``reader`` when its socket is readable."""
        number = reader.fileno()
        self._readers[number] = reader
        self._look_at(number)

    def add_writer(self, writer: IWriteDescriptor) -> None:
        """Tell ``writer`` when its socket is writable."""
        number = writer.fileno()
        self._writers[number] = writer
        self._look_at(number)

    def remove_reader(self, reader: IReadDescriptor) -> None:
        """Tell ``reader`` nothing more."""
        _remove(self._readers, reader)

    def remove_writer(self, writer: IWriteDescriptor) -> None:
        """Tell ``writer`` nothing more."""
        _remove(self._writers, writer)

    @property
    def readers(self) -> list[IReadDescriptor]:
        """All readers."""
        return list(self._readers.values())

    @property
    def writers(self) -> list[IWriteDescriptor]:
        """All writers."""
        return list(self._writers.values())

    def clear(self) -> None:
        """Forget all readers and writers."""
        self._readers.clear()
        self._writers.clear()
        self._to_look_at.clear()

    # Sockets

    def register(self, socket: SimulatedSocket) -> None:
        """Know a new socket by its file number."""
        self._sockets[socket.fileno()] = socket

    def unregister(self, socket: SimulatedSocket) -> None:
        """Forget a closed socket."""
        self._sockets.pop(socket.fileno(), None)

    @property
    def sockets(self) -> list[SimulatedSocket]:
        """All sockets that are open."""
        return list(self._sockets.values())

    def socket_changed(self, socket: SimulatedSocket) -> None:
        """Look whether a socket became readable or writable."""
        self._look_at(socket.fileno())

    def _look_at(self, number: int) -> None:
        if number not in self._readers and number not in self._writers:
            return
        self._to_look_at[number] = None
        if not self._is_scheduled:
            self._is_scheduled = True
            self._call_soon(self._poll)

    def _poll(self) -> None:
        self._is_scheduled = False
        numbers, self._to_look_at = self._to_look_at, {}
        for number in numbers:
            self._serve(number)

    def _serve(self, number: int) -> None:
        socket = self._sockets.get(number)
        if socket is None:
            return
        reader = self._readers.get(number)
        if reader is not None and socket.readable:
            self._run(reader, reader.doRead, is_read=True)
        writer = self._writers.get(number)
        if writer is not None and socket.writable:
            self._run(writer, writer.doWrite, is_read=False)
        if number not in self._sockets:
            return
        if (number in self._readers and socket.readable) or (
            number in self._writers and socket.writable
        ):
            self._look_at(number)

    def _run(
        self, descriptor: Any, method: Callable[[], object], *, is_read: bool
    ) -> None:
        try:
            why = method()
        except Exception as problem:
            self._log.failure("A transport failed")
            why = problem
        if isinstance(why, Exception):
            self._disconnect(descriptor, why, is_read=is_read)

    def _disconnect(self, descriptor: Any, why: Exception, *, is_read: bool) -> None:
        """Tell a transport that its connection ended, as the real reactors do."""
        self.remove_reader(descriptor)
        if (
            is_read
            and type(why) is error.ConnectionDone
            and IHalfCloseableDescriptor.providedBy(descriptor)
        ):
            descriptor.readConnectionLost(Failure(main.CONNECTION_DONE))
            return
        self.remove_writer(descriptor)
        descriptor.connectionLost(Failure(why))


def _remove(table: dict[int, Any], descriptor: Any) -> None:
    # A transport whose socket is closed has no file number any more.
    for number, other in table.items():
        if other is descriptor:
            del table[number]
            return
