"""Endpoints of the cloud for any Twisted program.

Endpoints that name the same mediator share a client, those that name the same identity
a server: one UDP port, one control connection, one set of relay connections.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from zope.interface import implementer

from dwcloud.errors import SystemUnknown
from dwcloud.interfaces import IGrantSource
from dwcloud.net.identity import ServerIdentity
from dwcloud.peer.client import CloudClient, ConnectOptions
from dwcloud.peer.cloud_account import CloudAccount
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.port_mappings import METHODS
from dwcloud.peer.server import CloudServer
from dwcloud.peer.server_access import ServerAccess
from dwcloud.peer.system_names import SystemReference
from dwcloud.peer.system_token import TokenAccount
from dwcloud.protocol.names import PeerName

__all__ = ["CloudAddress", "CloudClientEndpoint", "CloudServerEndpoint"]

# Keyed by the reactor, so that simulated machines in one process stay apart.
_clients: weakref.WeakKeyDictionary[Any, dict[Hashable, CloudClient]]
_clients = weakref.WeakKeyDictionary()
_servers: weakref.WeakKeyDictionary[Any, dict[Hashable, CloudServer]]
_servers = weakref.WeakKeyDictionary()


@implementer(IAddress)
@attrs.frozen
class CloudAddress:
    """The name under which a service can be reached.

    :ivar peer: ``server.system``.
    :ivar service: the name of the service.
    """

    peer: PeerName
    service: str


@implementer(IStreamClientEndpoint)
@attrs.frozen
class CloudClientEndpoint:
    """Connects to a service of a server by its name.

    :ivar reactor: Twisted's.
    :ivar peer: the server or system, or what people call it.
    :ivar service: name of the service, empty for the server's only one.
    :ivar mediator: whom to ask; None for the LAN only.
    :ivar options: how to connect.
    :ivar interface: the only local IP address to use, empty for any.
    :ivar lan: whether to look for the server on the LAN.
    :ivar grants: what lets this program in where only accounts with a role may;
        endpoints that share a client have that of the first.
    :ivar account: that knows names of systems.
    """

    reactor: Any
    peer: PeerName | SystemReference
    service: str
    mediator: MediatorAddress | None
    options: ConnectOptions = attrs.field(factory=ConnectOptions)
    interface: str = ""
    lan: bool = True
    grants: IGrantSource | None = attrs.field(default=None, eq=False)
    account: CloudAccount | TokenAccount | None = attrs.field(default=None, eq=False)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; see :meth:`dwcloud.peer.client.CloudClient.connect`."""
        clients = _clients.setdefault(self.reactor, {})
        key = (self.mediator, self.interface, self.lan, self.grants)
        client = clients.get(key)
        if client is None:
            client = CloudClient(
                self.reactor,
                self.mediator,
                interface=self.interface,
                lan=self.lan,
                grants=self.grants,
            )
            try:
                client.start()
            except CannotListenError as e:
                return fail(e)
            clients[key] = client
            self.reactor.addSystemEventTrigger("before", "shutdown", client.stop)
        if isinstance(self.peer, PeerName):
            return client.connect(
                self.peer, self.service, protocolFactory, self.options
            )
        return Deferred.fromCoroutine(
            self._connect_by_name(client, self.peer, protocolFactory)
        )

    async def _connect_by_name(
        self, client: CloudClient, name: SystemReference, factory: IProtocolFactory
    ) -> IProtocol:
        if self.account is None:
            raise SystemUnknown(
                f"{name} is the name of a system, which only a cloud knows: name its "
                "mediator"
            )
        peer = await self.account.resolve(name)
        return await client.connect(peer, self.service, factory, self.options)


@implementer(IStreamServerEndpoint)
@attrs.frozen
class CloudServerEndpoint:
    """Publishes a service of this process under a server's name.

    :ivar reactor: Twisted's.
    :ivar identity: directory of the server's identity, made on first use.
    :ivar service: name of the service.
    :ivar mediator: where the server is found; None for the LAN only.
    :ivar interface: the only local IP address to use, empty for all.
    :ivar tls: False to let clients use the service in the clear, too.
    :ivar port_mapping: how the router may be asked to forward ports, of
        :data:`dwcloud.peer.port_mappings.METHODS`.
    """

    reactor: Any
    identity: Path
    service: str
    mediator: MediatorAddress | None
    interface: str = ""
    lan: bool = True
    tls: bool = True
    port_mapping: tuple[str, ...] = METHODS

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Publish; fires as soon as local ports are bound.

        :return: fails with :class:`~dwcloud.errors.ConfigurationError` if the
            identity cannot be used, with ``CannotListenError`` if a port or the name
            of the service is taken.
        """
        return maybeDeferred(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        servers = _servers.setdefault(self.reactor, {})
        key = (self.identity.absolute(), self.mediator, self.interface, self.lan)
        server = servers.get(key)
        if server is None:
            identity = ServerIdentity.load_or_create(self.identity)
            load = partial(
                ServerAccess.load, self.identity, identity.name, self.reactor.seconds
            )
            server = CloudServer(
                self.reactor,
                identity,
                {},
                self.mediator,
                interface=self.interface,
                lan=self.lan,
                portMapping=self.port_mapping,
                loadAccess=load,
            )
        if self.service in server.acceptor.services:
            raise CannotListenError(
                None, None, f"service {self.service!r} is published already"
            )
        if not self.tls:
            server.acceptor.plain_services.add(self.service)
        port = _PublishedPort(self.reactor, key, server, self.service, factory)
        port.startListening()
        return port


@implementer(IListeningPort)
class _PublishedPort:
    """A published service; the server runs as long as one of its services does."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        key: Hashable,
        server: CloudServer,
        service: str,
        factory: IProtocolFactory,
    ) -> None:
        self._reactor = reactor
        self._key = key
        self._server = server
        self._service = service
        self._factory = factory

    def startListening(self) -> None:
        """Publish, starting the server if this is its first service."""
        servers = _servers.setdefault(self._reactor, {})
        if not self._server.running:
            self._server.startService()
            servers[self._key] = self._server
        self._factory.doStart()
        self._server.acceptor.services[self._service] = self._factory
        self._log.info(
            "service {service!r} is published by {peer}",
            service=self._service,
            peer=str(self._server.identity.name),
        )

    def stopListening(self) -> Deferred[None]:
        """Publish no longer; the last one stops the server."""
        services = self._server.acceptor.services
        if services.pop(self._service, None) is None:
            return succeed(None)
        self._server.acceptor.plain_services.discard(self._service)
        self._factory.doStop()
        if services:
            return succeed(None)
        _servers.get(self._reactor, {}).pop(self._key, None)
        return maybeDeferred(self._server.stopService).addCallback(lambda _: None)

    def getHost(self) -> CloudAddress:
        """The name to give to clients."""
        return CloudAddress(self._server.identity.name, self._service)
