"""A whole cloud in the simulated world: mediator, relay, servers and clients."""

from __future__ import annotations

import hashlib
import ipaddress
import random
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

from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.mediator.service import MediatorService, StreamSocket, UDPSocket
from dwcloud.net.identity import ServerIdentity, SystemIdentity
from dwcloud.peer.client import CloudClient, ConnectOptions
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.server import CloudServer
from dwcloud.peer.status import ConnectionReport, ServerEvent
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


class CloudWorld:
    """A simulated Internet with a mediator and a relay.

    :ivar events: what each server reported, by name of its host.
    """

    def __init__(self, seed: int = 1, *, relay: bool = True) -> None:
        self.world = World(seed=seed)
        self.internet: Realm = self.world.internet()
        self.mediator_host = self.internet.host("203.0.113.1", name="mediator")
        self.relay_host = self.internet.host("203.0.113.2", name="relay")
        self.address = MediatorAddress(self.mediator_host.address, MEDIATOR_PORT)
        self.system = SystemIdentity.generate()
        self.events: dict[str, list[ServerEvent]] = {}
        self.reports: list[ConnectionReport] = []
        urls = (f"http://{self.relay_host.address}:{RELAY_PORT}",) if relay else ()
        reactor = self.mediator_host.reactor
        self.mediator = MediatorService(
            reactor,
            MediatorConfiguration(relay_urls=urls),
            [
                StreamSocket(
                    f"tcp:{MEDIATOR_PORT}",
                    serverFromString(reactor, f"tcp:{MEDIATOR_PORT}"),
                )
            ],
            [UDPSocket(MEDIATOR_PORT, "")],
        )
        self.mediator.startService()
        self.relay = RelayService(self.relay_host.reactor, [f"tcp:{RELAY_PORT}"])
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
        server = CloudServer(
            host.reactor,
            identity or self.system.issue_server(),
            {"web": TCP4ClientEndpoint(host.reactor, "127.0.0.1", 8080)},
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
