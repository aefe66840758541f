"""A server and a client in one LAN, through Twisted's endpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError, ConnectionDone

from dwcloud.errors import (
    AllAttemptsFailed,
    ConfigurationError,
    IdentityMismatch,
    MediatorUnreachable,
    ServiceRefused,
    SessionRefused,
)
from dwcloud.net.identity import ServerIdentity
from dwcloud.peer.client import CloudClient, ConnectOptions
from dwcloud.peer.discovery import QUERY_WAIT, LANAnnouncer
from dwcloud.peer.endpoints import CloudClientEndpoint, CloudServerEndpoint
from dwcloud.peer.server import CloudServer
from dwcloud.peer.status import ConnectionReport, PathKind
from dwcloud.protocol.names import PeerName
from tests.unit.net.stream_world import StreamWorldTestCase, pattern, test_identity
from tests.unit.peer.path_world import RecordingFactory

LAN_ONLY = ConnectOptions(path="lan")


class LANTestCase(StreamWorldTestCase):
    """No mediator: a LAN is all there is."""

    def setUp(self) -> None:
        super().setUp()
        self.reports: list[ConnectionReport] = []

    def server(self, **options: Any) -> CloudServer:
        """A running server with one service."""
        self.service = RecordingFactory()
        server = CloudServer(
            self.server_host.reactor,
            test_identity(),
            {"web": self.service},
            None,
            interface=self.server_host.address,
            isLocal=lambda host: host.startswith("192.168.1."),
            **options,
        )
        server.startService()
        return server

    def client(self) -> CloudClient:
        """A running client."""
        client = CloudClient(
            self.client_host.reactor, None, interface=self.client_host.address
        )
        client.start()
        return client

    def connect(self, client: CloudClient, peer: PeerName, service: str = "web") -> Any:
        """Connect by the LAN; the client's protocol."""
        connecting = client.connect(
            peer, service, RecordingFactory(), LAN_ONLY, self.reports.append
        )
        return self.world.run_until(connecting)

    def stop(self, client: CloudClient, server: CloudServer) -> None:
        """Stop both; nothing is left of them."""
        self.world.run_until(client.stop())
        self.world.run_until(server.stopService())
        self.world.advance(5)
        self.assertNoTimers()
        for host in (self.server_host, self.client_host):
            self.assertEqual((host.reactor.getReaders(), host.connections), ([], []))


class ClientTests(LANTestCase):
    """A client that connects to a server in its network."""

    def test_by_server_and_by_system(self) -> None:
        """Either name leads there, and the report tells the whole name and the way."""
        server, client = self.server(), self.client()
        name = server.identity.name
        data = pattern(1_000_000)
        for peer in (name, PeerName(name.system)):
            protocol = self.connect(client, peer)
            self.service.made[-1].transport.write(data)
            self.world.run_until_idle()
            self.assertSame(bytes(protocol.data), data)
            protocol.transport.loseConnection()
            self.world.run_until_idle()
            self.assertIsInstance(protocol.lost, ConnectionDone)
            report = self.reports.pop()
            self.assertEqual(
                (report.event, report.peer, report.path, report.remote_address),
                (
                    "connected",
                    str(name),
                    PathKind.LAN,
                    f"192.168.1.2:{server.tcp_port}",
                ),
            )
        self.stop(client, server)

    def test_service_refused(self) -> None:
        """The report of a failure tells why."""
        server, client = self.server(), self.client()
        self.assertRaises(
            ServiceRefused, self.connect, client, server.identity.name, "ssh"
        )
        (report,) = self.reports
        self.assertEqual((report.event, report.path), ("failed", None))
        self.assertIn("it offers: web", str(report.error))
        self.stop(client, server)

    def test_nobody_there(self) -> None:
        """Who is not in the network is not found, in words that say so."""
        client = self.client()
        error = self.assertRaises(
            AllAttemptsFailed, self.connect, client, test_identity().name
        )
        self.assertIn("not heard on the LAN", str(error))
        anyhow = client.connect(test_identity().name, "web", RecordingFactory())
        error = self.assertRaises(MediatorUnreachable, self.world.run_until, anyhow)
        self.assertIn("no mediator is named", str(error))

    def test_late_answer(self) -> None:
        """Who may take no other path waits longer for a server that is busy."""
        client = self.client()
        peer, made = test_identity().name, RecordingFactory()
        connecting = client.connect(peer, "web", made, LAN_ONLY, self.reports.append)
        self.world.advance(3 * QUERY_WAIT)
        server = self.server()
        self.world.run_until(connecting)
        self.assertEqual(self.reports[-1].path, PathKind.LAN)
        made.made[-1].transport.loseConnection()
        self.stop(client, server)

    def test_somebody_else(self) -> None:
        """Who announces a name that is not his is found out."""
        liar = CloudServer(
            self.server_host.reactor,
            test_identity(1),
            {"web": RecordingFactory()},
            None,
            interface=self.server_host.address,
        )
        liar.identity = test_identity()
        liar.startService()
        client = self.client()
        self.assertRaises(IdentityMismatch, self.connect, client, test_identity().name)

    def test_long_service_name(self) -> None:
        """A name that cannot be sent fails and leaves no path open."""
        server, client = self.server(), self.client()
        connecting = client.connect(
            server.identity.name, "x" * 300, RecordingFactory(), LAN_ONLY
        )
        self.assertRaises(ConfigurationError, self.world.run_until, connecting)
        self.stop(client, server)

    def test_server_without_lan(self) -> None:
        """A server that keeps off the LAN admits no neighbour either."""
        server = self.server(lan=False)
        client = self.client()
        table: Any = client._lan
        self.assertIsNone(server._announcer)
        # A client that knows the address all the same.
        LANAnnouncer(
            self.server_host.reactor,
            server.identity.name,
            server.tcp_port,
            [self.server_host.address],
        ).start()
        self.world.advance(1)
        self.assertEqual(len(table.entries()), 1)
        error = self.assertRaises(
            AllAttemptsFailed, self.connect, client, server.identity.name
        )
        self.assertIn("knows no such connect session", str(error))
        (reason,) = error.reasons.values()
        self.assertTrue(reason.check(SessionRefused))

    def test_cancelled(self) -> None:
        """Cancelling a connection on its way leaves nothing, at any moment."""
        server, client = self.server(), self.client()
        self.world.advance(1)
        for step in range(16):
            connecting = client.connect(
                server.identity.name, "web", RecordingFactory(), LAN_ONLY
            )
            connecting.addErrback(lambda reason: None)
            self.world.advance(step * 0.0003)
            connecting.cancel()
            self.world.advance(5)
            if not isinstance(connecting.result, type(None)):
                connecting.result.transport.loseConnection()
                self.world.advance(5)
            self.assertEqual(self.client_host.connections, [])
            self.assertEqual(self.server_host.connections, [])
            self.assertEqual(server.acceptor.opening.total(), 0)
        self.stop(client, server)


class EndpointTests(LANTestCase):
    """Any program of Twisted's."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(self.mktemp())
        self.factory = RecordingFactory()

    def endpoint(self, service: str = "web") -> CloudServerEndpoint:
        """Publishes a service."""
        return CloudServerEndpoint(
            self.server_host.reactor,
            self.directory,
            service,
            None,
            self.server_host.address,
        )

    def publish(self, service: str = "web") -> Any:
        """A published service."""
        port: Any = self.world.run_until(self.endpoint(service).listen(self.factory))
        port._server.acceptor.is_local = lambda host: True
        return port

    def connecting(self, peer: PeerName, service: str) -> Any:
        """What a client's endpoint gives."""
        endpoint = CloudClientEndpoint(
            self.client_host.reactor,
            peer,
            service,
            None,
            LAN_ONLY,
            self.client_host.address,
        )
        return self.world.run_until(endpoint.connect(RecordingFactory()))

    def test_published_and_connected(self) -> None:
        """The first use makes an identity; two services share one server."""
        web, ssh = self.publish(), self.publish("ssh")
        name = ServerIdentity.load(self.directory).name
        self.assertEqual((web.getHost().peer, web.getHost().service), (name, "web"))
        self.assertIs(web._server, ssh._server)
        for service in ("web", "ssh"):
            protocol = self.connecting(name, service)
            protocol.transport.write(service.encode())
            self.world.run_until_idle()
            self.assertEqual(bytes(self.factory.made[-1].data), service.encode())
        self.assertEqual(self.factory.numPorts, 2)

    def test_stopped(self) -> None:
        """A service that stops is gone; with the last one the server stops."""
        web, ssh = self.publish(), self.publish("ssh")
        name = web.getHost().peer
        self.world.run_until(ssh.stopListening())
        self.world.run_until(ssh.stopListening())
        self.assertRaises(ServiceRefused, self.connecting, name, "ssh")
        self.connecting(name, "web").transport.loseConnection()
        self.world.run_until(web.stopListening())
        self.assertEqual(self.factory.numPorts, 0)
        self.world.advance(5)
        self.assertEqual(list(self.server_host.reactor.getDelayedCalls()), [])
        self.assertEqual(self.server_host.reactor.getReaders(), [])
        self.publish()

    def test_taken(self) -> None:
        """A name is published once."""
        self.publish()
        error = self.assertRaises(CannotListenError, self.publish)
        self.assertIn("'web' is published already", str(error))

    def test_unusable_identity(self) -> None:
        """An identity that cannot be read fails, and is not overwritten."""
        self.directory.mkdir()
        (self.directory / "server.key").write_text("x")
        self.assertRaises(ConfigurationError, self.publish)
        self.assertEqual((self.directory / "server.key").read_text(), "x")
