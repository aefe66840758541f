"""A simulated Internet with a mediator, servers and clients."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol

from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.mediator.mediator import Mediator
from dwcloud.mediator.observer import IgnoreAll, Observer
from dwcloud.mediator.service import MediatorService, StreamSocket, UDPSocket
from dwcloud.net.identity import ServerIdentity, SystemIdentity
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.mediator_client import MediatorClient
from dwcloud.peer.mediator_link import MediatorLink
from dwcloud.peer.server_calls import ServerCalls
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.activity import Activity
from dwcloud.protocol.mediation.admittance import Admitter
from dwcloud.protocol.mediation.messages import (
    AccessChanged,
    ConnectionRequested,
    ConnectResponse,
    ListenResponse,
)
from dwcloud.protocol.mediation.registry import ServerRecord
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.tunnelling.proxies import NO_PROXIES, ProxySettings
from dwcloud.testing import Host, World

MEDIATOR = "198.51.100.1"
PORT = 3345
ADDRESS = MediatorAddress(MEDIATOR, PORT)

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
        )
        self.stun = STUNDatagramClient(self.reactor, self.udp.sendDatagram)
        self.udp.onSTUN = lambda data, address: (
            self.stun.datagramReceived(data, address) and None
        )
        self.udp.start()
        self.address = self.udp.getHost()


class SimulatedServer(Punching):
    """A server's link to the mediator, and what it was told."""

    def __init__(
        self,
        host: Host,
        identity: ServerIdentity = IDENTITIES[0],
        *,
        mediator: MediatorAddress = ADDRESS,
        proxies: ProxySettings = NO_PROXIES,
    ) -> None:
        super().__init__(host)
        self.identity = identity
        self.online: list[ListenResponse] = []
        self.offline: list[str] = []
        self.requests: list[ConnectionRequested] = []
        self.punched: list[ConnectionRequested] = []
        self.changes: list[AccessChanged] = []
        self.watched = 0
        self.calls = ServerCalls(
            self.reactor, Factory.forProtocol(Protocol), host.address
        )
        self.link = MediatorLink(
            self.reactor,
            identity,
            mediator,
            proxies=Proxies(self.reactor, proxies),
            udp=self.udp,
            stun=self.stun,
            onOnline=self.online.append,
            onOffline=self.offline.append,
            onConnectionRequested=self.punched.append,
            onAnnounced=self.requests.append,
            onAccessChanged=self.changes.append,
            onWatched=self._count_question,
            apart=self.calls.open,
            random_bytes=host.world.random_bytes,
            jitter=lambda: 0.0,
        )
        self.link.set_endpoints([Address(host.address, 7001)], [self.address])

    def _count_question(self) -> None:
        self.watched += 1


class SimulatedClient(Punching):
    """A client that asks."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.mediator = MediatorClient(
            self.reactor,
            self.udp,
            self.stun,
            ADDRESS,
            random_bytes=host.world.random_bytes,
        )

    def connect(
        self, target: PeerName, session: uuid.UUID | None = None
    ) -> Deferred[ConnectResponse]:
        """Ask for an introduction."""
        session = session or uuid.UUID(bytes=self.host.world.random_bytes(16))
        return self.mediator.request_connection(session, target, "a client")


class Hearing(IgnoreAll):
    """Hears what servers tell of themselves."""

    def __init__(self) -> None:
        self.activities: list[tuple[PeerName, Activity]] = []

    def activity_reported(self, name: PeerName, activity: Activity) -> None:
        self.activities.append((name, activity))


class MediatedWorld:
    """A mediator on the Internet, and hosts to be added.

    :param listen: endpoint strings of the mediator's TCP sockets.
    :param admitter: decides which clients may connect.
    :param observer: told of servers and connections.
    :ivar service: the mediator.
    """

    def __init__(
        self,
        configuration: MediatorConfiguration | None = None,
        listen: Sequence[str] = (f"tcp:{PORT}",),
        admitter: Admitter | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._listen = listen
        self._admitter = admitter
        self._observer = observer
        self.hearing = Hearing()
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
            [
                StreamSocket(text, serverFromString(reactor, text))
                for text in self._listen
            ],
            [UDPSocket(PORT)],
            mediator=Mediator(
                reactor,
                self.configuration,
                admitter=self._admitter,
                observer=self._observer or self.hearing,
            ),
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
    def mediator(self) -> Mediator:
        """The mediator."""
        return self.service.mediator

    @property
    def activities(self) -> list[tuple[PeerName, Activity]]:
        """What servers have told of themselves."""
        return self.hearing.activities

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
