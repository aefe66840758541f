"""Endpoints for UDT: what any Twisted program connects and listens with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from dwcloud.net.udp import shared_port
from dwcloud.net.udt_port import RENDEZVOUS_TIMEOUT
from dwcloud.protocol.udt.configuration import Configuration

__all__ = ["UDTClientEndpoint", "UDTServerEndpoint"]


@implementer(IResolutionReceiver)
class _Addresses:
    """Collects what a host name resolves to."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.complete: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Nothing is to be done yet."""

    def addressResolved(self, address: IAddress) -> None:
        """Take one address."""
        if isinstance(address, IPv4Address | IPv6Address):
            self.found.append(address.host)

    def resolutionComplete(self) -> None:
        """Fire unless nobody waits any more."""
        if not self.complete.called:
            self.complete.callback(list(dict.fromkeys(self.found)))


def _resolve(reactor: Any, host: str, port: int) -> Deferred[list[str]]:
    """Return the IP addresses of a host, the preferred one first."""
    if isIPAddress(host) or isIPv6Address(host):
        return succeed([host])
    if not IReactorPluggableNameResolver.providedBy(reactor):
        return fail(
            DNSLookupError(f"{host} is no IP address, and there is no resolver")
        )
    receiver = _Addresses()
    reactor.nameResolver.resolveHostName(
        receiver,
        host,
        portNumber=port,
        addressTypes=[IPv4Address, IPv6Address],
        transportSemantics="UDP",
    )
    return receiver.complete


@implementer(IStreamClientEndpoint)
class UDTClientEndpoint:
    """Connects to a UDT listener, or by rendezvous to a peer that does the same.

    :param host: name or IP address; the addresses of a name are tried in turn.
    :param local_port: the UDP port to use; 0 is one port for all who leave it free.
    :param bind_address: the local IP address; empty for any of the right family.
    :param rendezvous: both sides connect to each other at the same time.
    :param timeout: seconds for each address; None leaves it to the protocol (3 s to
        connect, 15 s for a rendezvous).
    :param configuration: of the UDT connections, where the port is not open yet.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        *,
        local_port: int = 0,
        bind_address: str = "",
        rendezvous: bool = False,
        timeout: float | None = None,
        configuration: Configuration | None = None,
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._local_port = local_port
        self._bind_address = bind_address
        self._rendezvous = rendezvous
        self._timeout = timeout
        self._configuration = configuration

    def __repr__(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"<UDTClientEndpoint {host}:{self._port}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; fires with the protocol, fails with the reason of the last try."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        hosts = self._usable(await _resolve(self._reactor, self._host, self._port))
        failed = DNSLookupError(f"{self._host} has no address that can be used here")
        reason: ConnectError | DNSLookupError = failed
        for host in hosts:
            try:
                return await self._connect_to(host, factory)
            except ConnectError as error:
                reason = error
        raise reason

    def _usable(self, hosts: Sequence[str]) -> Sequence[str]:
        """Return the addresses of the family that the local address belongs to."""
        if not self._bind_address:
            return hosts
        ipv6 = isIPv6Address(self._bind_address)
        return [host for host in hosts if isIPv6Address(host) == ipv6]

    def _connect_to(self, host: str, factory: IProtocolFactory) -> Deferred[IProtocol]:
        udt = shared_port(
            self._reactor,
            interface=self._bind_address or ("::" if isIPv6Address(host) else ""),
            port=self._local_port,
            configuration=self._configuration,
        ).udt
        if not self._rendezvous:
            return udt.connect((host, self._port), factory, self._timeout)
        timeout = RENDEZVOUS_TIMEOUT if self._timeout is None else self._timeout
        return udt.rendezvous((host, self._port), factory, timeout)


@implementer(IStreamServerEndpoint)
class UDTServerEndpoint:
    """Listens for UDT connections.

    :param port: the UDP port; 0 takes a free one of its own.
    :param interface: the local IP address; empty for all of IPv4, ``::`` for IPv6.
    :param backlog: connections that may wait to be accepted.
    :param configuration: of the UDT connections, where the port is not open yet.
    """

    def __init__(
        self,
        reactor: Any,
        port: int,
        *,
        interface: str = "",
        backlog: int = 50,
        configuration: Configuration | None = None,
    ) -> None:
        self._reactor = reactor
        self._port = port
        self._interface = interface
        self._backlog = backlog
        self._configuration = configuration

    def __repr__(self) -> str:
        host = f"[{self._interface}]" if ":" in self._interface else self._interface
        return f"<UDTServerEndpoint {host}:{self._port}>"

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen; fires with the port or fails with CannotListenError."""
        return execute(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        shared = shared_port(
            self._reactor,
            interface=self._interface,
            port=self._port,
            configuration=self._configuration,
            exclusive=True,
        )
        return shared.udt.listen(factory, self._backlog)
