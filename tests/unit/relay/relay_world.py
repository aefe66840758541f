"""A relay, a server and a client on simulated hosts."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.http_client import HTTPAnswer, HTTPClientConnection
from dwcloud.net.identity import ServerIdentity
from dwcloud.peer.relay_client import RelayClientEndpoint
from dwcloud.peer.relay_pool import RelayPool
from dwcloud.protocol.names import PeerName
from dwcloud.relay.service import RelayService
from dwcloud.testing import World
from tests.unit.net.stream_world import Recorder, test_identity

UPGRADE = ((b"connection", b"Upgrade"), (b"upgrade", b"dwcloud-relay"))


class Echo(Protocol):
    """Sends back what it gets."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class RelayTestCase(SynchronousTestCase):
    """A test with a relay at 203.0.113.5:3349.

    :cvar service_options: for the relay's service.
    """

    service_options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.world = World(seed=1)
        internet = self.internet = self.world.internet()
        self.relay_host = internet.host("203.0.113.5", name="relay")
        self.server_host = internet.host("203.0.113.10", name="server")
        self.client_host = internet.host("203.0.113.20", name="client")
        self.identity = test_identity()
        self.name = self.identity.name
        self.url = "http://203.0.113.5:3349"
        self.statuses: list[tuple[str, str]] = []
        self.pools: list[RelayPool] = []
        self.start_relay()
        self.addCleanup(self.stop)

    def start_relay(self) -> None:
        self.relay = RelayService(
            self.relay_host.reactor,
            ["tcp:3349"],
            random_bytes=self.world.random_bytes,
            **self.service_options,
        )
        self.relay.startService()

    def stop(self) -> None:
        """End everything in order; nothing may be left to do then."""
        for pool in self.pools:
            if pool.running:
                self.world.run_until(pool.stopService())
        if self.relay.running:
            self.world.run_until(self.relay.stopService())
        self.world.advance(130.0)
        for host in (self.relay_host, self.server_host):
            self.assertEqual(list(host.reactor.getDelayedCalls()), [])

    def pool(
        self,
        factory: Any = None,
        identity: ServerIdentity | None = None,
        **options: Any,
    ) -> RelayPool:
        """Start a server's pool."""
        pool = RelayPool(
            self.server_host.reactor,
            self.url,
            identity or self.identity,
            factory or Factory.forProtocol(Echo),
            onStatus=lambda status, reason: self.statuses.append((status, reason)),
            random_bytes=self.world.random_bytes,
            **options,
        )
        self.pools.append(pool)
        pool.startService()
        return pool

    def full_pool(self, factory: Any = None) -> RelayPool:
        """Start a pool and wait until it is full."""
        pool = self.pool(factory)
        self.world.run_until(lambda: pool.idle_connections >= 7)
        self.world.run_until(lambda: self.relay.pairing.idle_connections >= 7)
        return pool

    def client(self, name: PeerName | None = None, **options: Any) -> Any:
        """The endpoint of a client."""
        return RelayClientEndpoint(
            self.client_host.reactor, self.url, name or self.name, **options
        )

    def connect(self, name: PeerName | None = None) -> Recorder:
        """Connect a client and return what records its stream."""
        recorder = Recorder()
        self.world.run_until(connectProtocol(self.client(name), recorder))
        return recorder

    def http(self) -> HTTPClientConnection:
        """A stranger's connection to the relay."""
        endpoint = TCP4ClientEndpoint(self.client_host.reactor, "203.0.113.5", 3349)
        connection = self.world.run_until(
            connectProtocol(endpoint, HTTPClientConnection("relay"))
        )
        assert isinstance(connection, HTTPClientConnection)
        return connection

    def ask(
        self,
        method: str,
        path: str,
        headers: Any = (),
        connection: HTTPClientConnection | None = None,
    ) -> HTTPAnswer:
        """Send one request to the relay."""
        connection = connection or self.http()
        answer = self.world.run_until(connection.request(method, path, headers))
        assert answer is not None
        return answer

    def statistics(self) -> Any:
        """What the relay tells about itself."""
        return json.loads(self.ask("GET", "/relay/statistics/").body)
