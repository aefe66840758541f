"""A whole cloud in the simulated world: mediator, relay, servers and clients."""

from __future__ import annotations

import hashlib
import ipaddress
import random
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    serverFromString,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from dwcloud.accounts.access import AccessTable
from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.mediator.mediator import Mediator
from dwcloud.mediator.service import MediatorService, StreamSocket, UDPSocket
from dwcloud.net.identity import ServerIdentity, SystemIdentity
from dwcloud.net.signing import SigningKey
from dwcloud.peer.client import CloudClient, ConnectOptions
from dwcloud.peer.cloud_membership import CloudMembership
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.server import CloudServer
from dwcloud.peer.server_access import ServerAccess
from dwcloud.peer.status import ConnectionReport, ServerEvent
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.stun.behaviour import BehaviourServer
from dwcloud.relay.service import RelayService
from dwcloud.testing import Host, Realm, World

__all__ = ["FILE_SHA256", "FILE_SIZE", "CloudWorld", "Download"]

FILE_SIZE = 300_000
_FILE = random.Random("the published file").randbytes(FILE_SIZE)
FILE_SHA256 = hashlib.sha256(_FILE).hexdigest()
MEDIATOR_PORT = 3345
RELAY_PORT = 3349


class Download(Protocol):
    """Asks for the published file and keeps what comes."""

    def __init__(self) -> None:
        self.received = b""
        self.done: Deferred[str] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"GET /file HTTP/1.0\r\n\r\n")

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any) -> None:  # type: ignore[override]
        body = self.received.partition(b"\r\n\r\n")[2]
        self.done.callback(hashlib.sha256(body).hexdigest())


def _udp_socket(discovery: bool) -> UDPSocket:
    primary = Address("203.0.113.1", MEDIATOR_PORT)
    other = Address("203.0.113.3", MEDIATOR_PORT + 1)
    server = BehaviourServer(primary, other) if discovery else None
    return UDPSocket(primary.port, primary.host, server)


class CloudWorld:
    """A simulated Internet with a mediator and a relay.

    :param one_host: whether the relay is on the mediator's host, announced as a
        mediator does by default.
    :param discovery: whether the mediator has a second address to explore NATs with.
    :param web_ports: further TCP sockets of both, as endpoint strings.
    :param cloud_key: where there are accounts, the key that signs grants; the system
        of the servers is bound.
    :param ipv6: an address at which the mediator takes UDP as well.

    :ivar access: who is admitted, with accounts.
    :ivar events: what each server reported, by name of its host.
    """

    def __init__(
        self,
        seed: int = 1,
        *,
        relay: bool = True,
        one_host: bool = False,
        discovery: bool = True,
        web_ports: Sequence[str] = (),
        cloud_key: SigningKey | None = None,
        ipv6: str = "",
    ) -> None:
        self.world = World(seed=seed)
        self.internet: Realm = self.world.internet()
        self.mediator_host = self.internet.host(
            "203.0.113.1", "203.0.113.3", *filter(None, [ipv6]), name="mediator"
        )
        self.relay_host = self.mediator_host
        if not one_host:
            self.relay_host = self.internet.host("203.0.113.2", name="relay")
        self.address = MediatorAddress(self.mediator_host.address, MEDIATOR_PORT)
        self.system = SystemIdentity.generate()
        self.events: dict[str, list[ServerEvent]] = {}
        self.reports: list[ConnectionReport] = []
        named = "" if one_host else self.relay_host.address
        urls = (f"http://{named}:{RELAY_PORT}",) if relay else ()
        self.cloud_key = cloud_key
        self.access: AccessTable | None = None
        if cloud_key is not None:
            self.access = AccessTable(
                cloud_key, self.world.seconds, self.world.random_bytes
            )
            self.access.load(self.system.name.system, public=False, web=False)
        reactor = self.mediator_host.reactor
        configuration = MediatorConfiguration(relay_urls=urls)
        self.mediator = MediatorService(
            reactor,
            configuration,
            [
                StreamSocket(text, serverFromString(reactor, text))
                for text in (f"tcp:{MEDIATOR_PORT}", *web_ports)
            ],
            [
                _udp_socket(discovery),
                *(UDPSocket(MEDIATOR_PORT, host) for host in filter(None, [ipv6])),
            ],
            mediator=Mediator(reactor, configuration, admitter=self.access),
        )
        self.mediator.startService()
        self.relay = RelayService(
            self.relay_host.reactor,
            [f"tcp:{RELAY_PORT}", *web_ports],
            cloud_key=None if cloud_key is None else cloud_key.public_key,
        )
        if relay:
            self.relay.startService()

    def serve(
        self, host: Host, identity: ServerIdentity | None = None, **options: Any
    ) -> CloudServer:
        """Start a server on ``host`` that publishes a website as ``web``."""
        root = Resource()
        root.putChild(b"file", Data(_FILE, "application/octet-stream"))
        host.reactor.listenTCP(
            8080, Site(root, reactor=host.reactor), interface="127.0.0.1"
        )
        events = self.events.setdefault(host.name, [])
        options.setdefault("interface", host.address)
        lan = ipaddress.ip_network(f"{host.address}/24", strict=False)
        options.setdefault("isLocal", lambda a: ipaddress.ip_address(a) in lan)
        web = TCP4ClientEndpoint(host.reactor, "127.0.0.1", 8080)
        identity = identity or self.system.issue_server()
        if self.cloud_key is not None:
            member = CloudMembership("cloud", self.cloud_key.public_key, "garage")
            access = ServerAccess(member, identity.name, self.world.seconds)
            options.setdefault("loadAccess", lambda: access)
        server = CloudServer(
            host.reactor,
            identity,
            {"web": web, **options.pop("services", {})},
            self.address,
            onEvent=events.append,
            **options,
        )
        server.startService()
        return server

    def wait_online(self, host: Host, limit: float = 30.0) -> None:
        """Let the world run until the server is online and waits at the relay."""
        events = self.events[host.name]

        def online() -> bool:
            kinds = {e.event for e in events}
            return "online" in kinds and (
                not self.relay.running
                or any(e.details.get("state") == "listening" for e in events)
            )

        self.world.run_until(online, limit)

    def client(self, host: Host, **options: Any) -> CloudClient:
        """Start a client on ``host``."""
        options.setdefault("interface", host.address)
        client = CloudClient(host.reactor, self.address, **options)
        client.start()
        return client

    def download(
        self,
        client: CloudClient,
        server: CloudServer,
        options: ConnectOptions | None = None,
        service: str = "web",
    ) -> tuple[ConnectionReport, str]:
        """Fetch the file once; return the report and the SHA-256 of what came."""
        connecting = client.connect(
            server.identity.name,
            service,
            Factory.forProtocol(Download),
            options,
            self.reports.append,
        )
        protocol: Any = self.world.run_until(connecting, 60.0)
        digest = self.world.run_until(protocol.done, 120.0)
        return self.reports[-1], digest
