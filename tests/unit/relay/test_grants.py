"""A relay of a cloud: it joins only those whom the mediator sent."""

from __future__ import annotations

import uuid
from typing import Any

from twisted.internet.endpoints import connectProtocol

from dwcloud.errors import RelayRefused
from dwcloud.net.http_client import HTTPAnswer
from dwcloud.net.signing import SigningKey
from dwcloud.peer.relay_client import RelayClientEndpoint
from dwcloud.protocol.grants import RelayGrant
from dwcloud.protocol.grants.relay import authorization_of
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.paths import client_sessions_path, new_tunnel_path
from dwcloud.protocol.tunnelling.methods import METHOD_NAMES
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.relay.service import RelayService
from tests.unit.net.stream_world import Recorder

from .relay_world import UPGRADE, RelayTestCase

KEY = SigningKey.generate()


class GrantCase(RelayTestCase):
    """A relay with the key of a cloud, and a server there."""

    service_options = {"cloud_key": KEY.public_key}

    def setUp(self) -> None:
        super().setUp()
        self.full_pool()

    def grant(self, name: PeerName | None = None, key: SigningKey = KEY) -> bytes:
        """Return what a mediator gives to a client."""
        grant = RelayGrant.issue(uuid.uuid4(), name or self.name, self.world.seconds())
        return grant.encode(key.sign)

    def answer(
        self,
        grant: bytes | str | None,
        name: PeerName | None = None,
        method: str = "POST",
    ) -> HTTPAnswer:
        """Ask for a session, with a grant or another ``Authorization``.

        :param method: GET asks for a tunnel without a session.
        """
        name = name or self.name
        field = authorization_of(grant) if isinstance(grant, bytes) else grant
        headers = () if field is None else ((b"authorization", field.encode()),)
        if method == "GET":
            path = f"{new_tunnel_path(name)}/upgrade"
            return self.ask(method, path, (*UPGRADE, *headers))
        return self.ask(method, client_sessions_path(name), headers)


class GrantTests(GrantCase):
    """What a client has to show."""

    def test_member(self) -> None:
        """With the mediator's grant a stream opens, by each tunnelling method."""
        for method in METHOD_NAMES:
            with self.subTest(method=method):
                client = Recorder()
                endpoint = self.client(grant=self.grant(), method=method)
                self.world.run_until(connectProtocol(endpoint, client))
                client.transport.write(b"hello")
                self.world.run_until(lambda client=client: client.data == b"hello")
                client.transport.loseConnection()
                self.world.advance(2.0)

    def test_strangers(self) -> None:
        """No grant is 401, one that does not hold 403; server or none, all alike."""
        absent = PeerName(uuid.uuid4(), uuid.uuid4())
        old = self.grant(), self.grant(absent)
        self.world.advance(120.0)
        forger = SigningKey.generate()
        for present, missing, status in (
            (None, None, 401),
            ("Basic eA==", "Basic eA==", 401),
            ("DWCloud-Grant ?", "DWCloud-Grant ?", 403),
            (b"x", b"x", 403),
            (*old, 403),
            (self.grant(key=forger), self.grant(absent, forger), 403),
            (self.grant(absent), self.grant(), 403),
            (self.grant(), self.grant(absent, forger), 0),
        ):
            for method in ("POST", "HEAD", "GET"):
                with self.subTest(status=status, method=method):
                    answers = [
                        self.answer(present, self.name, method),
                        self.answer(missing, absent, method),
                    ]
                    told = [(a.status, a.body, dict(a.headers)) for a in answers]
                    if status:
                        self.assertEqual(told[0], told[1])
                        self.assertEqual(answers[0].status, status)
                    else:
                        # The comparison itself can fail.
                        self.assertNotEqual(told[0], told[1])

    def test_told_what_is_missing(self) -> None:
        """The 401 names the scheme, as HTTP demands."""
        answer = self.answer(None)
        self.assertEqual(answer.header("www-authenticate"), "DWCloud-Grant")
        self.assertIn("the mediator's grant", answer.sentence)

    def test_client_without_grant(self) -> None:
        """A client is told in words why the relay does not help."""
        endpoint = self.client()
        joining = connectProtocol(endpoint, Recorder())
        error = self.assertRaises(RelayRefused, self.world.run_until, joining)
        self.assertEqual(error.status, 401)

    def test_another_server(self) -> None:
        """A grant for one server opens no other one, of the same system either."""
        other = PeerName(self.name.system, uuid.uuid4())
        self.assertEqual(self.answer(self.grant(other)).status, 403)
        system = PeerName(self.name.system)
        self.assertEqual(self.answer(self.grant(), system).status, 403)


class PeerRelayTests(GrantCase):
    """Relays of one cloud that know of each other."""

    def setUp(self) -> None:
        super().setUp()
        host: Any = self.internet.host("203.0.113.6", name="other")
        self.other = RelayService(
            host.reactor,
            ["tcp:3349"],
            peer_relays=[ServiceURL.parse(self.url)],
            random_bytes=self.world.random_bytes,
            cloud_key=KEY.public_key,
        )
        self.other.startService()
        self.addCleanup(lambda: self.world.run_until(self.other.stopService()))

    def connect(self, grant: bytes | None) -> Recorder:  # type: ignore[override]
        """Connect a client whose relay is the other one."""
        client = Recorder()
        endpoint = RelayClientEndpoint(
            self.client_host.reactor, "http://203.0.113.6:3349", self.name, grant=grant
        )
        self.world.run_until(connectProtocol(endpoint, client))
        return client

    def test_sent_on(self) -> None:
        """The grant goes along with the question, and with the client."""
        client = self.connect(self.grant())
        client.transport.write(b"hello")
        self.world.run_until(lambda: client.data == b"hello")
        client.transport.loseConnection()
        self.world.advance(1.0)

    def test_stranger(self) -> None:
        """A stranger is not sent on, and the other relay is not even asked."""
        before = self.statistics()["ended"]["refused"]
        for grant in (None, self.grant(key=SigningKey.generate())):
            self.assertRaises(RelayRefused, self.connect, grant)
        self.assertEqual(self.statistics()["ended"]["refused"], before)
