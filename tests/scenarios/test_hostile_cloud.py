"""A mediator and a relay that lie: the client notices, and tells nobody anything."""

from __future__ import annotations

import uuid

import attrs
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import AllAttemptsFailed, CloudError, IdentityMismatch
from dwcloud.net.identity import SystemIdentity
from dwcloud.peer.client import ConnectOptions
from dwcloud.peer.server import CloudServer
from dwcloud.protocol.mediation.registry import MemoryRegistry, ServerRecord
from dwcloud.protocol.names import PeerName

from .cloud_world import CloudWorld, Download


class _LyingRegistry(MemoryRegistry):
    """Hands out the addresses of an accomplice under the name that was asked for."""

    accomplice: PeerName

    def find(self, target: PeerName) -> ServerRecord | None:
        """The accomplice's record with another name on it."""
        record = super().find(self.accomplice)
        assert record is not None
        name = target
        if target.server is None:
            name = PeerName(target.system, uuid.uuid4())
        return attrs.evolve(record, name=name)


class HostileTests(SynchronousTestCase):
    """The client asks for one server and is led to another."""

    def setUp(self) -> None:
        self.cloud = CloudWorld()
        self.evil_host = self.cloud.internet.host("203.0.113.66", name="evil")
        # The accomplice admits every session: it wants the client's bytes.
        self.evil = self.cloud.serve(
            self.evil_host, SystemIdentity.generate().issue_server()
        )
        self.evil.acceptor.sessions.use = (  # type: ignore[method-assign]
            lambda session: self.evil.acceptor.sessions.add(session) or object()  # type: ignore[assignment,return-value,func-returns-value]
        )
        self.cloud.wait_online(self.evil_host)
        self.wanted_host = self.cloud.internet.host("203.0.113.10", name="server")
        self.wanted = self.cloud.serve(self.wanted_host)
        self.cloud.wait_online(self.wanted_host)
        self.client_host = self.cloud.internet.host("203.0.113.20", name="client")

    def refusal(self, peer: PeerName, path: str) -> CloudError:
        """Connect, expecting an error; the accomplice must have got no stream."""
        client = self.cloud.client(self.client_host, lan=False)
        made: list[Download] = []

        def build() -> Download:
            made.append(Download())
            return made[-1]

        connecting = client.connect(
            peer,
            "web",
            Factory.forProtocol(build),
            ConnectOptions(path=path),
            self.cloud.reports.append,
        )
        failures = []
        connecting.addErrback(failures.append)
        self.cloud.world.run_until(lambda: bool(failures), 60.0)
        self.assertEqual(made, [], "an application got a stream")
        self.assertEqual(self.streams(self.evil), [])
        self.assertEqual(self.cloud.reports[-1].event, "failed")
        return failures[0].value  # type: ignore[no-any-return]

    def streams(self, server: CloudServer) -> list[str]:
        """What the server reported of streams."""
        events = self.cloud.events[self.evil_host.name]
        return [e.event for e in events if e.event.startswith("stream")]

    def lie_as_mediator(self) -> None:
        """Let the mediator lead everybody to the accomplice."""
        mediator = self.cloud.mediator.mediator
        registry = _LyingRegistry()
        registry.accomplice = self.evil.identity.name
        registry.__dict__.update(mediator.registry.__dict__)
        mediator.registry = registry
        mediator.sessions._registry = registry

    def test_mediator_names_another_server(self) -> None:
        """Addresses of somebody else, by TCP and by UDP: an identity error."""
        self.lie_as_mediator()
        for path in ("tcp", "udp"):
            for peer in (
                self.wanted.identity.name,
                PeerName(self.wanted.identity.name.system),
            ):
                with self.subTest(path=path, peer=str(peer)):
                    error = self.refusal(peer, path)
                    self.assertIsInstance(error, IdentityMismatch)
                    self.assertIn(str(self.evil.identity.name), str(error))

    def test_relay_joins_another_server(self) -> None:
        """A relay that joins the client with somebody else: an identity error."""
        evil = self.evil.identity.name
        self.cloud.relay.pairing._choose_server = (  # type: ignore[method-assign]
            lambda target: evil
        )
        error = self.refusal(self.wanted.identity.name, "relay")
        self.assertIsInstance(error, IdentityMismatch)
        self.assertIn(str(evil), str(error))

    def test_reasons_name_every_path(self) -> None:
        """With all paths tried, the error has the reason of each."""
        self.lie_as_mediator()
        evil = self.evil.identity.name
        self.cloud.relay.pairing._choose_server = (  # type: ignore[method-assign]
            lambda target: evil
        )
        error = self.refusal(self.wanted.identity.name, "auto")
        self.assertIsInstance(error, IdentityMismatch | AllAttemptsFailed)
        for kind in ("tcp", "udp", "relay"):
            self.assertIn(f"{kind} ", str(error))
