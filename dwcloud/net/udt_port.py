"""The UDT connections of one UDP port: drives the sans-IO multiplexer.

One loop: feed what came, hand out events, send, arm one timer. All that a program
does with its transports within one turn of the reactor is sent together.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    CannotListenError,
    ConnectError,
    ConnectionLost,
    NoProtocol,
)
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.net.udp_port import DatagramPort
from dwcloud.net.udt_attempts import Attempts
from dwcloud.net.udt_messages import UDTMessageTransport
from dwcloud.net.udt_transport import UDTTransport, transport_address
from dwcloud.protocol.addresses import Address, format_address
from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.udt.configuration import Configuration
from dwcloud.protocol.udt.connection import Connection
from dwcloud.protocol.udt.events import (
    Connected,
    ConnectionClosed,
    DataAvailable,
    Event,
    IncomingConnection,
    SendBufferLow,
)
from dwcloud.protocol.udt.message_connection import MessageConnection
from dwcloud.protocol.udt.multiplexer import Multiplexer

__all__ = ["RENDEZVOUS_TIMEOUT", "UDTListeningPort", "UDTPort"]

RENDEZVOUS_TIMEOUT = 15.0
"""Seconds that a rendezvous may take (docs/protocol/mediation)."""

_CLOSED = "the UDP port is closed"

_FAULT_LOG_INTERVAL = 1.0
"""Seconds; faults of ours in between are only counted."""

_AFTER_FAULT = 0.1
"""Seconds until the next turn after a fault of ours."""


def steady_clock(reactor: Any) -> Callable[[], float]:
    """Return a clock that never goes back, for all times of the core, in seconds.

    Twisted's reactors use the time of day, which may be set back: a connection that
    waits for ten milliseconds would then wait for an hour.
    """
    clock: Callable[[], float] = reactor.seconds
    return time.monotonic if clock is time.time else clock


@implementer(IListeningPort)
class UDTListeningPort:
    """The listener of a UDP port; made by :meth:`UDTPort.listen`.

    :ivar factory: makes the protocols of accepted connections.
    """

    def __init__(self, port: UDTPort, factory: IProtocolFactory, backlog: int) -> None:
        self.factory = factory
        self._port = port
        self._backlog = backlog

    def __repr__(self) -> str:
        host, port = self._port.local_address()
        return f"<UDTListeningPort of {self.factory!r} on {host}:{port}>"

    def startListening(self) -> None:
        """Accept connections."""
        self._port.start_listener(self, self._backlog)

    def stopListening(self) -> Deferred[None]:
        """Accept no more; connections that exist stay, and the socket with them."""
        return self._port.stop_listener(self)

    def getHost(self) -> Any:
        """Return the UDP address on which this port accepts."""
        return transport_address(self._port.local_address())


class UDTPort:
    """Makes and accepts UDT connections on one UDP port.

    :ivar faults: exceptions of the core, which should not exist.
    :ivar on_idle: called when neither listener, connection nor attempt is left and
        the last shutdown was sent; may return a Deferred.
    """

    _log = Logger()

    on_idle: Callable[[], Deferred[None]] | None = None

    def __init__(
        self,
        reactor: Any,
        port: DatagramPort,
        *,
        configuration: Configuration,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._reactor = reactor
        self._port = port
        self._clock = steady_clock(reactor)
        self._multiplexer = Multiplexer(
            configuration=configuration, random_bytes=random_bytes, now=self._clock()
        )
        self._attempts = Attempts(reactor.callLater, self._abandon)
        self._transports: dict[int, UDTTransport] = {}
        self._listener: UDTListeningPort | None = None
        self._to_read: dict[UDTTransport, None] = {}
        self._waiting: dict[UDTTransport, None] = {}
        self._timer: Any = None
        self._timer_at = 0.0
        self._serving = False
        self._unsent = False
        self._closed: Failure | None = None
        self._next_fault_log = float("-inf")
        self.faults = 0

    # For programs

    def connect(
        self,
        address: tuple[str, int],
        factory: IProtocolFactory,
        timeout: float | None = None,
    ) -> Deferred[IProtocol]:
        """Connect to a listener.

        :param address: numeric IP address and port.
        :param timeout: seconds; at most, and by default, what the configuration says.
        :return: fires with the protocol. Fails with
            :class:`~dwcloud.errors.UDTHandshakeTimeout` or
            :class:`~dwcloud.errors.UDTRejected`; cancelling it gives up.
        """
        return self._attempt(self._multiplexer.connect, address, factory, timeout)

    def connect_early(
        self, address: tuple[str, int], factory: IProtocolFactory
    ) -> Deferred[IProtocol]:
        """Connect to a listener of ours, and have a protocol before it has answered.

        What the protocol writes when it is connected goes with the handshake, so that
        the answer is there after one round trip where the listener's cookie is known.
        That nobody answers, or wants the connection, is told to the protocol as its
        end, by :class:`~dwcloud.errors.UDTHandshakeTimeout` or
        :class:`~dwcloud.errors.UDTRejected`.

        :return: has fired.
        """
        if self._closed is not None:
            return fail(ConnectError(string=_CLOSED))
        try:
            connection = self._multiplexer.connect(
                _canonical(address), now=self.seconds(), early=True
            )
        except (LocalProtocolError, ValueError) as error:
            return fail(ConnectError(string=str(error)))
        factory.doStart()
        self.schedule()
        try:
            protocol = factory.buildProtocol(transport_address(connection.peer_address))
            if protocol is None:
                raise NoProtocol
        except Exception:
            failure = Failure()
            factory.doStop()
            self._abandon(connection)
            return fail(failure)
        self._start(connection, protocol, factory.doStop)
        return succeed(protocol)

    def rendezvous(
        self,
        address: tuple[str, int],
        factory: IProtocolFactory,
        timeout: float | None = RENDEZVOUS_TIMEOUT,
    ) -> Deferred[IProtocol]:
        """Connect to a peer that does the same towards our port.

        One for each remote address at a time. Parameters and result are those of
        :meth:`connect`.
        """
        return self._attempt(self._multiplexer.rendezvous, address, factory, timeout)

    def listen(self, factory: IProtocolFactory, backlog: int = 50) -> UDTListeningPort:
        """Accept connections, of which ``backlog`` may wait to be taken.

        :raises twisted.internet.error.CannotListenError: somebody listens already.
        """
        listener = UDTListeningPort(self, factory, backlog)
        listener.startListening()
        return listener

    def add_alias(self, source: Address, address: Address) -> None:
        """See :meth:`Multiplexer.add_alias`."""
        self._multiplexer.add_alias(source, address)

    def known_as(self, source: Address) -> Address:
        """See :meth:`Multiplexer.known_as`."""
        return Address(*self._multiplexer.known_as(source))

    def has_connections_to(self, address: tuple[str, int]) -> bool:
        """Tell whether a connection to that address is up."""
        return any(
            transport.peer_address == tuple(address)
            for transport in self._transports.values()
        )

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do on this port."""
        return not (
            self._attempts
            or self._transports
            or self._listener
            or self._multiplexer.next_timer() is not None
        )

    def _attempt(
        self,
        start: Callable[..., Connection],
        address: tuple[str, int],
        factory: IProtocolFactory,
        timeout: float | None,
    ) -> Deferred[IProtocol]:
        if self._closed is not None:
            return fail(ConnectError(string=_CLOSED))
        try:
            connection = start(_canonical(address), now=self.seconds())
        except (LocalProtocolError, ValueError) as error:
            return fail(ConnectError(string=str(error)))
        self.schedule()
        return self._attempts.add(connection, factory, timeout)

    def _abandon(self, connection: Connection) -> None:
        connection.abort(now=self.seconds())
        self.schedule()

    # For the listener

    def start_listener(self, listener: UDTListeningPort, backlog: int) -> None:
        """Let ``listener`` have the incoming connections."""
        host, port = self.local_address()
        if self._listener is not None:
            raise CannotListenError(host, port, "a UDT listener is there already")
        if self._closed is not None:
            raise CannotListenError(host, port, _CLOSED)
        self._multiplexer.listen(backlog=backlog)
        self._listener = listener
        listener.factory.doStart()
        self._log.info(
            "{factory} accepts UDT on {address}",
            factory=listener.factory,
            address=format_address((host, port)),
        )
        self.schedule()

    def stop_listener(self, listener: UDTListeningPort) -> Deferred[None]:
        """Take the incoming connections from ``listener``."""
        if self._listener is not listener:
            return succeed(None)
        self._listener = None
        if self._closed is None:
            self._multiplexer.stop_listening()
        listener.factory.doStop()
        if self.on_idle is not None and self._closed is None and self.idle:
            return self.on_idle()
        self.schedule()
        return succeed(None)

    # For transports

    def seconds(self) -> float:
        """Return the time of the core."""
        return self._clock()

    def local_address(self) -> tuple[str, int]:
        """Return the IP address and UDP port bound."""
        return self._port.local_address()

    def schedule(self) -> None:
        """Let :meth:`service` run in the next turn of the reactor."""
        self._unsent = True
        if not self._serving:
            self._arm(0.0)

    def schedule_read(self, transport: UDTTransport) -> None:
        """Let a transport deliver what it held back."""
        self._to_read[transport] = None
        self.schedule()

    def wait_for_room(self, transport: UDTTransport) -> None:
        """Ask a transport after each sending whether its producer may go on."""
        self._waiting[transport] = None

    def transport_lost(self, transport: UDTTransport) -> None:
        """Forget a transport whose protocol is told of the end."""
        self._transports.pop(transport.socket_id, None)
        self._to_read.pop(transport, None)
        self._waiting.pop(transport, None)
        self.schedule()

    # For the UDP port

    def datagrams_received(
        self,
        data: bytes | memoryview,
        segment_size: int | None,
        address: tuple[str, int],
    ) -> None:
        """Feed the core; :meth:`service` has to follow in this turn."""
        if self._closed is not None:
            return
        try:
            self._multiplexer.receive_datagrams(
                data, segment_size, address, now=self.seconds()
            )
        except Exception:
            # No packet is worth the port with all its connections.
            self._fault_found(f"while taking UDT from {format_address(address)}")

    def service(self, not_before: float = 0.0) -> None:
        """Do what is due: timers, events, sending; then arm the timer.

        :param not_before: the moment for which the timer was armed, as the reactor
            may call a rounding error too early.
        """
        if self._serving or self._closed is not None:
            return
        self._serving, healthy = True, False
        try:
            self._handle_timer(max(self.seconds(), not_before))
            self._handle_events()
            self._send()
            # What was sent has made room: it is filled while that is on its way.
            self._handle_events()
            self._resume_producers()
            healthy = True
        except Exception:
            self._fault_found("while serving the connections")
        finally:
            self._serving = False
        self._settle(healthy)

    def _fault_found(self, where: str) -> None:
        """Log an exception of the core, without letting a peer fill the disk."""
        self.faults += 1
        now = self.seconds()
        if now >= self._next_fault_log:
            self._next_fault_log = now + _FAULT_LOG_INTERVAL
            self._log.failure(
                "Fault {number} of UDT on {port!r}, {where}",
                number=self.faults,
                port=self._port,
                where=where,
            )

    def _settle(self, healthy: bool) -> None:
        """Prepare for what comes after this turn: the end, rest, or the next turn."""
        if self._closed is not None:
            self._end_all()
        elif not healthy:
            # Whatever it was, the other connections go on, and it may not spin.
            self._arm(_AFTER_FAULT)
        elif self.on_idle is not None and self.idle:
            self._disarm()
            self.on_idle()
        else:
            self._rearm()

    def port_closed(self, reason: Failure) -> None:
        """End everything: the socket is about to close."""
        if self._closed is not None:
            return
        for connection in self._multiplexer.connections:
            connection.abort(now=self.seconds())
        self._send()
        self._closed = reason
        self._disarm()
        if not self._serving:
            self._end_all()

    # The loop

    def _handle_timer(self, now: float) -> None:
        due = self._multiplexer.next_timer()
        if due is not None and due <= now:
            self._multiplexer.handle_timer(now=now)

    def _handle_events(self) -> None:
        while self._closed is None:
            event = self._multiplexer.next_event()
            if event is not None:
                self._handle_event(event)
            elif self._to_read:
                transport, _ = self._to_read.popitem()
                transport.reading_resumed()
            else:
                return

    def _handle_event(self, event: Event) -> None:
        connection = event.connection
        transport = self._transports.get(connection.socket_id)
        if transport is not None:
            if isinstance(event, DataAvailable):
                transport.data_available()
            elif isinstance(event, SendBufferLow | Connected):
                transport.send_buffer_low()
            elif isinstance(event, ConnectionClosed):
                transport.connection_closed(event.reason, event.detail)
        elif isinstance(event, Connected):
            self._connected(connection)
        elif isinstance(event, IncomingConnection):
            self._accepted(connection)
        elif isinstance(event, ConnectionClosed):
            self._attempts.connection_closed(connection, event.reason, event.detail)

    def _send(self) -> None:
        if self._closed is not None:
            return
        self._unsent = False
        send = self._port.send
        for transmit in self._multiplexer.datagrams_to_send(now=self.seconds()):
            send(transmit.payload, transmit.segment_size, transmit.address)

    def _resume_producers(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        for transport in waiting:
            if transport.resume_producer():
                self._waiting[transport] = None

    # Timer

    def _rearm(self) -> None:
        if self._unsent or self._to_read:
            self._arm(0.0)
            return
        due = self._multiplexer.next_timer()
        if due is None:
            self._disarm()
        else:
            self._arm(max(0.0, due - self.seconds()), due)

    def _arm(self, delay: float, at: float = 0.0) -> None:
        """Arm the timer; ``at`` 0.0 stands for the next turn."""
        if self._closed is not None:
            return
        if self._timer is None:
            self._timer = self._reactor.callLater(delay, self._timer_fired)
        elif self._timer_at != at or at != 0.0:
            self._timer.reset(delay)
        self._timer_at = at

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _timer_fired(self) -> None:
        self._timer = None
        self.service(self._timer_at)

    # Beginnings and ends

    def _connected(self, connection: Connection) -> None:
        attempt = self._attempts.take(connection)
        if attempt is None:
            connection.abort(now=self.seconds())
            return
        try:
            protocol = attempt.build_protocol()
        except Exception:
            connection.close(now=self.seconds())
            attempt.fail(Failure())
        else:
            self._start(connection, protocol, attempt.factory.doStop)
            attempt.deferred.callback(protocol)

    def _accepted(self, connection: Connection) -> None:
        protocol = None
        if self._listener is not None:
            address = transport_address(connection.peer_address)
            try:
                protocol = self._listener.factory.buildProtocol(address)
            except Exception:
                self._log.failure("No protocol for {address}", address=address)
        if protocol is None:
            connection.close(now=self.seconds())
        else:
            self._start(connection, protocol, None)

    def _start(
        self,
        connection: Connection,
        protocol: IProtocol,
        on_lost: Callable[[], object] | None,
    ) -> None:
        transport: UDTTransport
        if isinstance(connection, MessageConnection):
            transport = UDTMessageTransport(self, connection, protocol)
        else:
            transport = UDTTransport(self, connection, protocol)
        self._transports[connection.socket_id] = transport
        transport.start(on_lost)

    def _end_all(self) -> None:
        """Tell everybody that the port is gone."""
        lost = Failure(ConnectionLost(_CLOSED))
        for transport in list(self._transports.values()):
            transport.lose(lost)
        self._attempts.fail_all(_CLOSED)
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.factory.doStop()
        self._to_read.clear()
        self._waiting.clear()


def _canonical(address: tuple[str, int]) -> tuple[str, int]:
    """Write an address as the core knows it; ValueError if it is none."""
    host, port = address
    return str(ipaddress.ip_address(host)), port
