"""A simulated Internet with a mediator, servers and clients."""

from __future__ import annotations

import uuid
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint

from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.mediator.service import MediatorService, StreamSocket, UDPSocket
from dwcloud.net.identity import ServerIdentity, SystemIdentity
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.mediator_client import MediatorClient
from dwcloud.peer.mediator_link import MediatorLink
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import (
    ConnectionRequested,
    ConnectResponse,
    ListenResponse,
)
from dwcloud.protocol.mediation.registry import ServerRecord
from dwcloud.protocol.names import PeerName
from dwcloud.testing import Host, World

MEDIATOR = "198.51.100.1"
PORT = 3345

SYSTEM = SystemIdentity.generate()
IDENTITIES = [SYSTEM.issue_server(), SYSTEM.issue_server()]


class Punching:
    """A host with the UDP port from which it punches."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.reactor: Any = host.reactor
        self.udp = SharedUDPPort(
            self.reactor,
            interface=host.address,
            random_bytes=host.world.random_bytes,
            offload=False,
        )
        self.stun = STUNDatagramClient(self.reactor, self.udp.sendDatagram)
        self.udp.onSTUN = lambda data, address: (
            self.stun.datagramReceived(data, address) and None
        )
        self.udp.start()
        self.address = self.udp.getHost()


class SimulatedServer(Punching):
    """A server's link to the mediator, and what it was told."""

    def __init__(self, host: Host, identity: ServerIdentity = IDENTITIES[0]) -> None:
        super().__init__(host)
        self.identity = identity
        self.online: list[ListenResponse] = []
        self.offline: list[str] = []
        self.requests: list[ConnectionRequested] = []
        self.link = MediatorLink(
            self.reactor,
            identity,
            MEDIATOR,
            PORT,
            udp=self.udp,
            stun=self.stun,
            onOnline=self.online.append,
            onOffline=self.offline.append,
            onConnectionRequested=self.requests.append,
            random_bytes=host.world.random_bytes,
            jitter=lambda: 0.0,
        )
        self.link.set_endpoints([Address(host.address, 7001)], [self.address])


class SimulatedClient(Punching):
    """A client that asks."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.mediator = MediatorClient(
            self.reactor,
            self.udp,
            self.stun,
            MEDIATOR,
            PORT,
            random_bytes=host.world.random_bytes,
        )

    def connect(
        self, target: PeerName, session: uuid.UUID | None = None
    ) -> Deferred[ConnectResponse]:
        """Ask for an introduction."""
        session = session or uuid.UUID(bytes=self.host.world.random_bytes(16))
        return self.mediator.request_connection(session, target, "a client")


class MediatedWorld:
    """A mediator on the Internet, and hosts to be added.

    :ivar service: the mediator.
    """

    def __init__(self, configuration: MediatorConfiguration | None = None) -> None:
        self.world = World(7)
        self.internet = self.world.internet()
        self.host = self.internet.host(MEDIATOR, name="mediator")
        self.configuration = configuration or MediatorConfiguration()
        self.start()

    def start(self) -> None:
        """Start a new mediator, which knows of nothing."""
        reactor: Any = self.host.reactor
        self.service = MediatorService(
            reactor,
            self.configuration,
            [StreamSocket("tcp:3345", TCP4ServerEndpoint(reactor, PORT))],
            [UDPSocket(PORT)],
        )
        self.service.startService()

    def restart(self) -> None:
        """Stop the mediator and start a new one."""
        self.world.run_until(self.service.stopService(), 1.0)
        self.start()

    def record(self, server: SimulatedServer) -> ServerRecord:
        """Return what the mediator knows of a server."""
        record = self.service.mediator.registry.find(server.identity.name)
        assert record is not None
        return record

    def tcp_connections_from(self, punching: Punching) -> int:
        """Count the TCP connections that a host has tried."""
        return sum(
            record.protocol == "tcp"
            and record.kind == "syn"
            and record.origin == punching.host.name
            for record in self.world.trace
        )

    @property
    def snapshot(self) -> dict[str, Any]:
        """The mediator's counters."""
        return self.service.mediator.snapshot()

    def server(
        self, address: str = "198.51.100.2", identity: ServerIdentity = IDENTITIES[0]
    ) -> SimulatedServer:
        """Add a server and start its link."""
        server = SimulatedServer(self.internet.host(address), identity)
        server.link.startService()
        return server

    def online_server(
        self, address: str = "198.51.100.2", identity: ServerIdentity = IDENTITIES[0]
    ) -> SimulatedServer:
        """Add a server and wait until it is registered, with its addresses."""
        server = self.server(address, identity)
        self.world.run_until(lambda: server.online, 5.0)
        self.world.advance(0.5)
        return server

    def client(self, address: str = "198.51.100.3") -> SimulatedClient:
        """Add a client."""
        return SimulatedClient(self.internet.host(address))
