"""UDT connections that are being set up, until they have a protocol or failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, NoProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.python.failure import Failure

from dwcloud.errors import UDTConnectionLost, UDTHandshakeTimeout, UDTRejected
from dwcloud.net.udt_transport import transport_address
from dwcloud.protocol.addresses import format_address
from dwcloud.protocol.udt.connection import Connection
from dwcloud.protocol.udt.events import CloseReason

__all__ = ["Attempt", "Attempts"]


class Attempt:
    """One connection that is being set up.

    :ivar connection: the core's part.
    :ivar factory: will make the protocol.
    :ivar deferred: will fire with the protocol.
    """

    def __init__(
        self,
        connection: Connection,
        factory: IProtocolFactory,
        give_up: Callable[[Deferred[IProtocol]], None],
        timeout_call: Any,
    ) -> None:
        self.connection = connection
        self.factory = factory
        self.deferred: Deferred[IProtocol] = Deferred(give_up)
        self._timeout_call = timeout_call

    def stop_clock(self) -> None:
        """Forget the time limit."""
        if self._timeout_call is not None and self._timeout_call.active():
            self._timeout_call.cancel()

    def build_protocol(self) -> IProtocol:
        """Make the protocol.

        :raises NoProtocol: the factory does not want the connection.
        """
        address = transport_address(self.connection.peer_address)
        protocol = self.factory.buildProtocol(address)
        if protocol is None:
            raise NoProtocol
        return protocol

    def fail(self, reason: Failure) -> None:
        """Tell the caller that there will be no connection."""
        self.factory.doStop()
        self.deferred.errback(reason)


class Attempts:
    """The attempts of one port.

    :param call_later: the reactor's.
    :param abandon: aborts a connection of the core.
    """

    def __init__(
        self,
        call_later: Callable[..., Any],
        abandon: Callable[[Connection], None],
    ) -> None:
        self._call_later = call_later
        self._abandon = abandon
        self._attempts: dict[int, Attempt] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    def add(
        self,
        connection: Connection,
        factory: IProtocolFactory,
        timeout: float | None,
    ) -> Deferred[IProtocol]:
        """Watch over a connection that the core has begun.

        :param timeout: seconds after which to give up, None for the core's limit.
        """
        call = None
        if timeout is not None:
            call = self._call_later(timeout, self._timed_out, connection)
        attempt = Attempt(connection, factory, lambda _: self._cancel(connection), call)
        self._attempts[connection.socket_id] = attempt
        factory.doStart()
        return attempt.deferred

    def take(self, connection: Connection) -> Attempt | None:
        """Remove and return the attempt of a connection, None if it was given up."""
        attempt = self._attempts.pop(connection.socket_id, None)
        if attempt is not None:
            attempt.stop_clock()
        return attempt

    def _cancel(self, connection: Connection) -> None:
        # The Deferred itself fails, with CancelledError.
        attempt = self.take(connection)
        if attempt is not None:
            attempt.factory.doStop()
            self._abandon(connection)

    def _timed_out(self, connection: Connection) -> None:
        attempt = self.take(connection)
        if attempt is not None:
            self._abandon(connection)
            attempt.fail(Failure(_timeout(connection)))

    def connection_closed(
        self, connection: Connection, reason: CloseReason, detail: str
    ) -> None:
        """Fail the attempt whose connection the core gave up."""
        attempt = self.take(connection)
        if attempt is None:
            return
        error: Exception
        if reason is CloseReason.TIMED_OUT:
            error = _timeout(connection)
        elif reason is CloseReason.REJECTED:
            peer = format_address(connection.peer_address)
            error = UDTRejected(f"{peer} rejected the UDT handshake")
        else:
            error = UDTConnectionLost(detail or reason.value)
        attempt.fail(Failure(error))

    def fail_all(self, message: str) -> None:
        """Fail all attempts."""
        attempts, self._attempts = self._attempts, {}
        for attempt in attempts.values():
            attempt.stop_clock()
            attempt.fail(Failure(ConnectError(string=message)))


def _timeout(connection: Connection) -> UDTHandshakeTimeout:
    peer = format_address(connection.peer_address)
    return UDTHandshakeTimeout(f"{peer} did not answer the UDT handshake in time")
