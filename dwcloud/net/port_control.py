"""PCP and NAT-PMP over a UDP socket of the reactor."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IMulticastTransport, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from dwcloud.errors import PortMappingRefused, PortMappingUnavailable
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.port_mapping.mappings import LEASE, Grant, MappedPort
from dwcloud.protocol.port_mapping.port_control import (
    ANNOUNCEMENT_GROUP,
    ANNOUNCEMENT_PORT,
    PORT,
    Granted,
    PortControlClient,
    Refused,
    Removed,
    StateLost,
)

__all__ = ["PortControl"]


class PortControl(DatagramProtocol):
    """Asks one router for mappings.

    :param gateway: its address.
    :param versions: of the protocol: 2 is PCP, 0 NAT-PMP.
    :param onDoubt: told when the router has lost its mappings or changed its address.
    :param interface: local IP address to ask from, empty for any.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        gateway: str,
        versions: frozenset[int],
        onDoubt: Callable[[], None],
        *,
        interface: str = "",
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._reactor = reactor
        self._gateway = gateway
        self._versions = versions
        self._on_doubt = onDoubt
        self._interface = interface
        self._random_bytes = random_bytes
        self._client: PortControlClient | None = None
        self._timer: IDelayedCall | None = None
        self._waiting: dict[MappedPort, Deferred[Grant | None]] = {}
        self._announcements: _Announcements | None = None
        self._started = False

    @property
    def description(self) -> str:
        """The protocol and the router."""
        name = "PCP" if self._client is None else self._client.protocol
        return f"{name} at {self._gateway}"

    def start(self) -> None:
        """Open the socket.

        :raises PortMappingUnavailable: if the router cannot even be sent to.
        """
        try:
            self._reactor.listenUDP(0, self, interface=self._interface)
            self._started = True
            transport = cast(IUDPTransport, self.transport)
            transport.connect(self._gateway, PORT)
        except (CannotListenError, OSError) as error:
            raise PortMappingUnavailable(str(error)) from None
        # From here on the system lets in only what the router sends from that port.
        own = cast(Any, transport.getHost()).host
        self._client = PortControlClient(
            self._gateway, own, self._random_bytes, versions=self._versions
        )
        self._announcements = _Announcements(self._interface or own, self._receive)
        self._announcements.start(self._reactor)

    def stop(self) -> Deferred[None]:
        """Close the socket; what is not answered fails."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for waiting in list(self._waiting.values()):
            waiting.cancel()
        if self._announcements is not None:
            self._announcements.stop()
        if not self._started:
            return succeed(None)
        self._started = False
        return maybeDeferred(cast(Any, self.transport).stopListening)

    def map(self, port: MappedPort, external: Address | None) -> Deferred[Grant]:
        """Ask for a mapping or renew it.

        :param external: what it was before.
        :return: fails with :class:`~dwcloud.errors.PortMappingRefused`, or
            :class:`~dwcloud.errors.PortMappingUnavailable` without an answer.
        """
        return cast("Deferred[Grant]", self._request(port, int(LEASE), external))

    def unmap(self, port: MappedPort, grant: Grant) -> Deferred[None]:
        """Remove a mapping."""
        return cast("Deferred[None]", self._request(port, 0, None))

    def _request(
        self, port: MappedPort, lifetime: int, external: Address | None
    ) -> Deferred[Grant | None]:
        assert self._client is not None, "not started"
        if not self._started:
            return fail(PortMappingUnavailable(f"{self._gateway} takes no requests"))
        previous = self._waiting.get(port)
        if previous is not None:
            previous.cancel()
        waiting: Deferred[Grant | None] = Deferred(lambda _: self._forget(port))
        self._waiting[port] = waiting
        now = self._reactor.seconds()
        self._client.request(port, lifetime, external=external, now=now)
        self._go_on()
        return waiting

    def _forget(self, port: MappedPort) -> None:
        self._waiting.pop(port, None)

    # Datagrams

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Take an answer."""
        self._receive(datagram, Address(addr[0], addr[1]))

    def connectionRefused(self) -> None:
        """Nothing listens at the router's port: no repetition helps."""
        for port in list(self._waiting):
            self._fail(
                port, PortMappingUnavailable(f"{self._gateway} takes no requests")
            )

    def stopProtocol(self) -> None:
        """The socket is closed, perhaps because the router refused to be asked.

        That is what epoll makes of a refused datagram.
        """
        self._started = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self.connectionRefused()

    def _receive(self, datagram: bytes, address: Address) -> None:
        if self._client is not None:
            now = self._reactor.seconds()
            self._client.receive_datagram(datagram, address, now=now)
            self._go_on()

    def _go_on(self) -> None:
        client = self._client
        assert client is not None
        now = self._reactor.seconds()
        for datagram, _ in client.datagrams_to_send(now=now):
            if not self._started:
                return
            try:
                cast(Any, self.transport).write(datagram)
            except OSError as error:
                self._log.debug(
                    "{gateway}: {error}", gateway=self._gateway, error=error
                )
        while (event := client.next_event()) is not None:
            if isinstance(event, Granted):
                self._succeed(event.port, event.grant)
            elif isinstance(event, Removed):
                self._succeed(event.port, None)
            elif isinstance(event, Refused):
                self._fail(event.port, PortMappingRefused(event.reason))
            elif isinstance(event, StateLost):
                self._on_doubt()
            else:
                silent = f"{self._gateway} does not answer"
                self._fail(event.port, PortMappingUnavailable(silent))
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        at = client.next_timer()
        if at is not None and self._started:
            self._timer = self._reactor.callLater(max(0.0, at - now), self._timer_due)

    def _timer_due(self) -> None:
        assert self._client is not None
        self._client.handle_timer(now=self._reactor.seconds())
        self._go_on()

    def _succeed(self, port: MappedPort, result: Grant | None) -> None:
        waiting = self._waiting.pop(port, None)
        if waiting is not None:
            waiting.callback(result)

    def _fail(self, port: MappedPort, error: Exception) -> None:
        waiting = self._waiting.pop(port, None)
        if waiting is not None:
            waiting.errback(error)


class _Announcements(DatagramProtocol):
    """Hears what routers tell all hosts, if the port can be shared."""

    noisy = False
    _log = Logger()

    def __init__(
        self, interface: str, received: Callable[[bytes, Address], None]
    ) -> None:
        self._interface = interface
        self._received = received
        self._started = False

    def start(self, reactor: Any) -> None:
        try:
            reactor.listenMulticast(ANNOUNCEMENT_PORT, self, "", 8192, True)
        except (CannotListenError, OSError) as error:
            # Renewals notice what is missed here, only later.
            self._log.debug("no announcements are heard: {error}", error=error)
            return
        self._started = True
        transport = cast(IMulticastTransport, self.transport)
        joining = maybeDeferred(
            transport.joinGroup, ANNOUNCEMENT_GROUP, self._interface
        )
        joining.addErrback(
            lambda reason: self._log.debug(
                "no announcements are heard: {reason}", reason=reason.getErrorMessage()
            )
        )

    def stop(self) -> None:
        if self._started:
            self._started = False
            maybeDeferred(cast(Any, self.transport).stopListening)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._received(datagram, Address(addr[0], addr[1]))
