"""UPnP Internet gateways: found by multicast, asked by HTTP."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

import h11
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import CannotListenError, ConnectError, ConnectionClosed
from twisted.internet.interfaces import IDelayedCall, IMulticastTransport
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.logger import Logger

from dwcloud.errors import PortMappingRefused, PortMappingUnavailable
from dwcloud.net.http_client import HTTPAnswer, HTTPClientConnection
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.port_mapping import gateway_device, ssdp
from dwcloud.protocol.port_mapping.gateway_device import (
    Action,
    ActionRefused,
    ConnectionService,
)
from dwcloud.protocol.port_mapping.mappings import LEASE, Grant, MappedPort
from dwcloud.protocol.port_mapping.ssdp import DeviceLocation

__all__ = ["InternetGateway", "find_gateway"]

_SEARCHES = 3
_SEARCH_INTERVAL = 1.0
"""Seconds; devices may wait one second with their answer (MX in the search)."""
_HTTP_TIMEOUT = 5.0
_PORT_TRIES = 4
_HIGH_PORTS = range(20000, 60000)
T = TypeVar("T")


class InternetGateway:
    """One gateway that was found.

    :param service: the one that maps ports.
    :param client: this machine's address towards it.
    """

    def __init__(
        self,
        reactor: Any,
        service: ConnectionService,
        client: str,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._reactor = reactor
        self._service = service
        self._client = client
        self._random_bytes = random_bytes
        self._lifetime = int(LEASE)

    @property
    def description(self) -> str:
        """The protocol and the router."""
        return f"UPnP-IGD at {self._service.location.address.host}"

    def stop(self) -> Deferred[None]:
        """There is nothing to be closed: each request has its own connection."""
        return maybeDeferred(lambda: None)

    def map(self, port: MappedPort, external: Address | None) -> Deferred[Grant]:
        """Ask for a mapping or renew it.

        :param external: what it was before.
        :return: fails with :class:`~dwcloud.errors.PortMappingRefused`, or
            :class:`~dwcloud.errors.PortMappingUnavailable` without an answer.
        """
        return _in_our_words(Deferred.fromCoroutine(self._map(port, external)))

    def check(self) -> Deferred[str]:
        """Ask for the external address.

        :return: fails as :meth:`map` does.
        """
        return _in_our_words(Deferred.fromCoroutine(self._external_host()))

    def unmap(self, port: MappedPort, grant: Grant) -> Deferred[None]:
        """Remove a mapping."""
        action = gateway_device.delete_mapping(self._service, port, grant.external.port)
        removing = Deferred.fromCoroutine(self._do(action))
        return _in_our_words(removing).addCallback(lambda _: None)

    async def _external_host(self) -> str:
        asking = gateway_device.external_address(self._service)
        return gateway_device.read_external_address(await self._do(asking))

    async def _map(self, port: MappedPort, external: Address | None) -> Grant:
        host = await self._external_host()
        wanted = port.port if external is None else external.port
        number = await self._add(port, wanted)
        # One without end is renewed all the same, in case the router restarts.
        return Grant(Address(host, number), float(self._lifetime or LEASE))

    async def _add(self, port: MappedPort, wanted: int) -> int:
        """Map to the wanted port or another one; return it."""
        tries = _PORT_TRIES
        while True:
            tries -= 1
            add = gateway_device.add_mapping
            if self._service.reserves_ports:
                add = gateway_device.add_any_mapping
            action = add(self._service, port, wanted, self._client, self._lifetime)
            try:
                values = await self._do(action)
            except ActionRefused as refusal:
                if refusal.code == gateway_device.ONLY_PERMANENT_LEASES and (
                    self._lifetime
                ):
                    self._lifetime = 0
                elif refusal.code == gateway_device.CONFLICT and tries > 0:
                    chosen = int.from_bytes(self._random_bytes(4), "big")
                    wanted = _HIGH_PORTS[chosen % len(_HIGH_PORTS)]
                else:
                    raise
                continue
            if self._service.reserves_ports:
                return gateway_device.read_reserved_port(values)
            return wanted

    async def _do(self, action: Action) -> dict[str, str]:
        answer, _ = await _exchange(
            self._reactor,
            self._service.location,
            "POST",
            action.header,
            action.encode(),
            self._client,
        )
        return gateway_device.read_answer(action, answer.status, answer.body)


def _in_our_words(asking: Deferred[T]) -> Deferred[T]:
    """Turn what can go wrong in HTTP and XML into the errors of port mapping."""

    def failed(reason: Any) -> Any:
        if reason.check(RemoteProtocolError):
            raise PortMappingRefused(reason.getErrorMessage())
        reason.trap(ConnectError, ConnectionClosed, h11.RemoteProtocolError)
        raise PortMappingUnavailable(reason.getErrorMessage())

    return asking.addErrback(failed)


async def _exchange(
    reactor: Any,
    location: DeviceLocation,
    method: str,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    body: bytes = b"",
    interface: str = "",
) -> tuple[HTTPAnswer, str]:
    """Do one HTTP request; return the answer and the local address used."""
    endpoint = TCP4ClientEndpoint(
        reactor,
        location.address.host,
        location.address.port,
        timeout=_HTTP_TIMEOUT,
        bindAddress=(interface, 0) if interface else None,
    )
    authority = str(location.address)
    factory = Factory.forProtocol(lambda: HTTPClientConnection(authority))
    connection = cast(HTTPClientConnection, await endpoint.connect(factory))
    transport = cast(Any, connection.transport)
    try:
        asking = connection.request(method, location.target, headers, body)
        asking.addTimeout(_HTTP_TIMEOUT, reactor, _too_slow)
        return await asking, transport.getHost().host
    finally:
        connection.disconnect()


def _too_slow(_: object, timeout: float) -> Any:
    raise PortMappingUnavailable(f"no answer within {timeout:g} s")


def find_gateway(
    reactor: Any, interface: str = "", gateway: str | None = None
) -> Deferred[InternetGateway]:
    """Look for a gateway in this network.

    :param interface: local IP address to look from, empty for the system's choice.
    :param gateway: the router that leads out: only its answers count. Without it the
        first answer does.
    :return: fails with :class:`~dwcloud.errors.PortMappingUnavailable` if there is
        none. Cancellable.
    """
    return _in_our_words(
        Deferred.fromCoroutine(_find_gateway(reactor, interface, gateway))
    )


async def _find_gateway(
    reactor: Any, interface: str, gateway: str | None
) -> InternetGateway:
    search = _Search(reactor, interface, gateway)
    try:
        location = await search.start()
    finally:
        search.stop()
    answer, client = await _exchange(reactor, location, "GET", interface=interface)
    if answer.status != 200:
        raise RemoteProtocolError(f"HTTP status {answer.status}")
    services = gateway_device.read_description(answer.body, location)
    # Of several connections the first that has an address is the one in use.
    for service in services[:-1]:
        found = InternetGateway(reactor, service, client)
        try:
            await found.check()
        except (PortMappingRefused, PortMappingUnavailable):
            continue
        return found
    return InternetGateway(reactor, services[-1], client)


class _Search(DatagramProtocol):
    """Asks all devices of the network who is a gateway."""

    noisy = False
    _log = Logger()

    def __init__(self, reactor: Any, interface: str, gateway: str | None) -> None:
        self._reactor = reactor
        self._interface = interface
        self._gateway = gateway
        self._found: Deferred[DeviceLocation] = Deferred()
        self._timer: IDelayedCall | None = None
        self._left = _SEARCHES
        self._started = False

    def start(self) -> Deferred[DeviceLocation]:
        try:
            self._reactor.listenMulticast(0, self, self._interface)
        except (CannotListenError, OSError) as error:
            raise PortMappingUnavailable(str(error)) from None
        self._started = True
        transport = cast(IMulticastTransport, self.transport)
        transport.setTTL(2)
        if self._interface:
            transport.setOutgoingInterface(self._interface)
        self._search()
        return self._found

    def stop(self) -> Deferred[None]:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if not self._started:
            return maybeDeferred(lambda: None)
        self._started = False
        return maybeDeferred(cast(Any, self.transport).stopListening)

    def _search(self) -> None:
        if not self._left:
            error = PortMappingUnavailable("no UPnP gateway answers in this network")
            self._found.errback(error)
            return
        self._left -= 1
        for datagram in ssdp.SEARCHES:
            try:
                cast(Any, self.transport).write(datagram, (ssdp.GROUP, ssdp.PORT))
            except OSError as error:
                self._log.debug("no multicast here: {error}", error=error)
        self._timer = self._reactor.callLater(_SEARCH_INTERVAL, self._search)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if self._found.called or self._gateway not in (None, addr[0]):
            return
        try:
            location = ssdp.read_answer(datagram)
        except RemoteProtocolError:
            return
        # A device speaks for itself: nobody is sent to somebody else's machine.
        if location.address.host == addr[0]:
            self._found.callback(location)
