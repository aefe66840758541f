"""A server that admits paths and a client that opens them, on simulated hosts."""

from __future__ import annotations

import uuid
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory

from dwcloud.net.cloud_stream import CloudStream
from dwcloud.net.path import Path, open_path
from dwcloud.net.tls import PeerVerifier
from dwcloud.peer.acceptor import Service, StreamAcceptor
from dwcloud.peer.sessions import ConnectSessions
from dwcloud.peer.status import PathKind, ServerEvent
from dwcloud.protocol.grants import ClientGrant
from dwcloud.protocol.names import PeerName
from tests.unit.net.stream_world import (
    AttachAtOnce,
    HalfRecorder,
    Recorder,
    StreamWorldTestCase,
    test_identity,
)

SESSION = uuid.UUID(int=7)


class RecordingFactory(Factory):
    """Makes recorders and keeps them."""

    noisy = False

    def __init__(self, protocol: type[Recorder] = HalfRecorder) -> None:
        self.made: list[Any] = []
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> Any:
        self.made.append(self._protocol())
        return self.made[-1]


class PathWorldTestCase(StreamWorldTestCase):
    """A server with one published service, which is a TCP server beside it."""

    kind = PathKind.TCP

    def setUp(self) -> None:
        super().setUp()
        self.identity = test_identity()
        self.sessions = ConnectSessions(self.world.seconds)
        self.sessions.add(SESSION, "announced")
        self.events: list[ServerEvent] = []
        self.web = RecordingFactory()
        self.server_host.reactor.listenTCP(8000, self.web, interface="127.0.0.1")
        self.acceptor = StreamAcceptor(
            self.server_host.reactor,
            self.identity,
            {"web": self.service(8000)},
            self.sessions,
            self.events.append,
            is_local=lambda host: host == self.client_host.address,
        )
        self.listen(self.acceptor.factory(self.kind))

    def service(self, port: int) -> Service:
        """A TCP server on the server's machine."""
        return TCP4ClientEndpoint(self.server_host.reactor, "127.0.0.1", port)

    def far_service(self) -> Service:
        """A service at an address where nobody answers."""
        silent = self.lan.host("192.168.1.9")
        silent.power_off()
        return TCP4ClientEndpoint(self.server_host.reactor, "192.168.1.9", 1)

    def path(
        self,
        session: uuid.UUID | None = SESSION,
        wanted: PeerName | None = None,
        kind: PathKind = PathKind.TCP,
        *,
        tls: bool = True,
        grant: ClientGrant | None = None,
    ) -> Path:
        """A path that is not connected yet."""
        return Path(
            self.client_host.reactor,
            kind,
            "an attempt",
            wanted or self.identity.name,
            session,
            "me",
            tls=tls,
            grant=grant,
        )

    def open(self, path: Path | None = None, port: int = 4000) -> Deferred[Path]:
        """Connect a path to the server."""
        endpoint = TCP4ClientEndpoint(
            self.client_host.reactor, self.server_host.address, port
        )
        return open_path(path or self.path(), endpoint)

    def start(self, service: str = "web", path: Path | None = None) -> Any:
        """Open a path and start a service; the client's protocol."""
        opened = path or self.world.run_until(self.open())
        assert opened is not None
        return self.world.run_until(opened.start(service, RecordingFactory()))

    def stranger(self) -> tuple[CloudStream, AttachAtOnce]:
        """A client that says what the test wants."""
        owner = AttachAtOnce(None)
        stream = CloudStream(owner, self.client_host.reactor)
        inner = Factory.forProtocol(lambda: stream)
        inner.noisy = False
        reactor = self.client_host.reactor
        verifier = PeerVerifier(self.identity.name)
        endpoint = TCP4ClientEndpoint(reactor, self.server_host.address, 4000)
        connecting = endpoint.connect(
            TLSMemoryBIOFactory(verifier, True, inner, reactor)
        )
        self.world.run_until(connecting)
        self.world.run_until_idle()
        return stream, owner

    def assertNothingOpen(self) -> None:
        """No connection, no opening and no timer is left on either side."""
        self.world.advance(5)
        self.assertEqual(self.acceptor.opening.total(), 0)
        self.assertNoTimers()
        for host in (self.server_host, self.client_host):
            self.assertEqual(host.connections, [])

    def happened(self) -> list[str]:
        """The names of the server's events."""
        return [event.event for event in self.events]
