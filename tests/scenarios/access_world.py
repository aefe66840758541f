"""A server of a system that belongs to an account, and clients here and there."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.access import AccessTable
from dwcloud.errors import CloudError
from dwcloud.net.signing import SigningKey
from dwcloud.peer.client import CloudClient, ConnectOptions
from dwcloud.peer.cloud_membership import CloudMembership
from dwcloud.peer.server import CloudServer
from dwcloud.peer.server_access import ServerAccess
from dwcloud.peer.status import PathKind
from dwcloud.protocol.grants import ClientGrant, Role
from dwcloud.protocol.names import PeerName
from dwcloud.testing import Host
from tests.unit.peer.cloud_grants import Grants

from .cloud_world import CloudWorld

PATHS = ("lan", "tcp", "udp", "relay")
ANN, BOB = uuid.UUID(int=10), uuid.UUID(int=11)


class Held(Protocol):
    """A stream that stays open; keeps what comes, and its end."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.lost_at: float | None = None
        self.clock: Callable[[], float] = lambda: 0.0

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost_at = self.clock()


class Holding(Factory):
    """Makes such streams and keeps them."""

    noisy = False

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.made: list[Held] = []

    def buildProtocol(self, addr: Any) -> Held:
        held = Held()
        held.clock = self._clock
        self.made.append(held)
        return held


class AccessScenario(SynchronousTestCase):
    """A server of a bound system at home, one neighbour, and one client far away."""

    def setUp(self) -> None:
        self.key = SigningKey.generate()
        self.membership = CloudMembership("cloud", self.key.public_key, "garage")
        self.make_cloud()
        self.world = self.cloud.world
        home = self.cloud.internet.nat("198.51.100.1", name="home")
        self.server_host = home.host("192.168.1.10", name="server")
        self.near = home.host("192.168.1.20", name="near")
        self.far = self.cloud.internet.host("203.0.113.20", name="far")
        self.service = Holding(self.world.seconds)
        self.directory = FilePath(self.mktemp())
        self.directory.mkdir()
        self.identity = self.cloud.system.issue_server()
        self.server = self.start_server()
        self.cloud.wait_online(self.server_host)
        self.name: PeerName = self.server.identity.name

    def make_cloud(self) -> None:
        """Make mediator and relay."""
        self.cloud = CloudWorld(cloud_key=self.key)

    @property
    def access(self) -> AccessTable:
        """The cloud's."""
        assert self.cloud.access is not None
        return self.cloud.access

    def start_server(self) -> CloudServer:
        """Start the server, with what its identity directory keeps."""
        self.guard = ServerAccess(
            self.membership, self.identity.name, self.world.seconds, self.directory
        )
        return self.cloud.serve(
            self.server_host,
            self.identity,
            loadAccess=lambda: self.guard,
            services={"held": self.service},
        )

    def grant(
        self,
        account: uuid.UUID = ANN,
        *,
        key: SigningKey | None = None,
        table: AccessTable | None = None,
    ) -> ClientGrant:
        """Have the cloud issue a grant to a member."""
        key = key or SigningKey.generate()
        table = table or self.access
        issued = table.issue(
            self.cloud.system.name.system,
            account,
            Role.VIEWER,
            key.public_key,
            account_name="ann",
            asked_ms=table.now_ms(),
        )
        return ClientGrant(issued.encoded, key.sign)

    def host(self, path: str) -> Host:
        """Where a client has to be for a path."""
        return self.near if path in ("lan", "tcp") else self.far

    def client(
        self, path: str, grant: ClientGrant | None, renewed: ClientGrant | None = None
    ) -> CloudClient:
        """Start a client who has a grant, or none."""
        client = self.cloud.client(
            self.host(path), lan=path == "lan", grants=Grants(grant, renewed)
        )
        self.addCleanup(client.stop)
        return client

    def connect(self, client: CloudClient, path: str) -> Held:
        """Connect; the stream must have taken that path."""
        factory = Holding(self.world.seconds)
        connecting = client.connect(
            self.name,
            "held",
            factory,
            ConnectOptions(path=path),
            self.cloud.reports.append,
        )
        held: Any = self.world.run_until(connecting, 60.0)
        self.assertEqual(self.cloud.reports[-1].path, PathKind(path))
        before = len(self.service.made)
        held.transport.write(b"hello")
        self.world.run_until(lambda: self.service.made[-1].data == b"hello", 10.0)
        self.assertEqual(len(self.service.made), before)
        return held  # type: ignore[no-any-return]

    def refusal(self, client: CloudClient, path: str) -> CloudError:
        """Connect in vain: the service must have heard nothing."""
        before = len(self.service.made)
        factory = Holding(self.world.seconds)
        connecting = client.connect(
            self.name, "held", factory, ConnectOptions(path=path)
        )
        error = self.assertRaises(CloudError, self.world.run_until, connecting, 60.0)
        self.assertEqual((len(self.service.made), factory.made), (before, []))
        return error
