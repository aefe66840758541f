"""The relay's answers: proofs, tickets, refusals, figures."""

from __future__ import annotations

import json
import uuid

from dwcloud.net.http_client import HTTPAnswer, HTTPClientConnection
from dwcloud.net.identity import ServerIdentity
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.paths import client_sessions_path, server_tunnel_path
from dwcloud.protocol.relaying.proof import Proof, make_proof
from tests.unit.net.stream_world import test_identity
from tests.unit.relay.relay_world import UPGRADE, RelayTestCase


class RegistrationTests(RelayTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = f"{server_tunnel_path(self.name)}/upgrade"

    def challenge(self, connection: HTTPClientConnection) -> str:
        answer = self.ask("GET", self.path, UPGRADE, connection)
        self.assertEqual(answer.status, 401)
        field = answer.header("www-authenticate")
        assert field is not None
        return field

    def proof(self, challenge: str, identity: ServerIdentity) -> Proof:
        return make_proof(
            challenge,
            method="upgrade",
            name=self.name,
            channel_binding=b"",
            certificates=identity.certificates,
            sign=identity.sign,
        )

    def register(self, proof: str, connection: HTTPClientConnection) -> HTTPAnswer:
        headers = (*UPGRADE, (b"authorization", proof.encode()))
        return self.ask("GET", self.path, headers, connection)

    def test_proof_and_ticket(self) -> None:
        """A proof opens one connection, its ticket the others."""
        connection = self.http()
        proof = self.proof(self.challenge(connection), self.identity)
        answer = self.register(proof.encode(), connection)
        self.assertEqual(answer.status, 101)
        ticket = answer.header("dwcloud-ticket")
        second = self.register(f"DWCloud-Ticket {ticket}", self.http())
        self.assertEqual(second.status, 101)
        self.assertIsNone(second.header("dwcloud-ticket"))

    def test_replay(self) -> None:
        """A recorded proof opens neither the same nor another connection."""
        connection = self.http()
        proof = self.proof(self.challenge(connection), self.identity).encode()
        other = self.http()
        self.challenge(other)
        self.assertEqual(self.register(proof, other).status, 401)
        self.assertEqual(self.register(proof, self.http()).status, 401)
        self.assertEqual(self.register(proof, connection).status, 101)

    def test_stranger(self) -> None:
        """Who knows a GUID but not its key parks no connection for it."""
        stranger = test_identity(1)
        connection = self.http()
        proof = self.proof(self.challenge(connection), stranger)
        self.assertEqual(self.register(proof.encode(), connection).status, 401)
        mixed = Proof(
            proof.nonce, self.identity.certificates, stranger.sign(b"something")
        )
        self.assertEqual(self.register(mixed.encode(), connection).status, 401)
        for field in ("DWCloud-Ticket x", "Basic eA==", "DWCloud"):
            self.assertEqual(self.register(field, self.http()).status, 401)
        self.assertEqual(self.relay.pairing.online_servers, 0)

    def test_too_many(self) -> None:
        """The fifteenth idle connection is refused with 403."""
        connection = self.http()
        proof = self.proof(self.challenge(connection), self.identity)
        ticket = self.register(proof.encode(), connection).header("dwcloud-ticket")
        statuses = [
            self.register(f"DWCloud-Ticket {ticket}", self.http()).status
            for _ in range(14)
        ]
        self.assertEqual(statuses, [101] * 13 + [403])

    def test_talkative_server(self) -> None:
        """A connection that says something before a client is there is broken."""
        connection = self.http()
        proof = self.proof(self.challenge(connection), self.identity)
        self.register(proof.encode(), connection)
        assert connection.transport is not None
        connection.transport.write(b"hello")
        self.world.run_until(lambda: self.relay.pairing.idle_connections == 0)


class AllowedSystemTests(RegistrationTests):
    def setUp(self) -> None:
        self.service_options = {"allowed_systems": [test_identity().name.system]}
        super().setUp()

    def test_not_allowed(self) -> None:
        """Another system proves itself and is refused all the same."""
        other = test_identity(1)
        self.path = f"{server_tunnel_path(other.name)}/upgrade"
        self.name = other.name
        connection = self.http()
        proof = self.proof(self.challenge(connection), other)
        answer = self.register(proof.encode(), connection)
        self.assertEqual(answer.status, 403)
        self.assertIn("may not use this relay", answer.sentence)


class AnswerTests(RelayTestCase):
    service_options = {"public_url": "https://relay.example.org/"}

    def test_session(self) -> None:
        """A session is created by POST and says where its tunnels are."""
        self.full_pool()
        answer = self.ask("POST", client_sessions_path(PeerName(self.name.system)))
        self.assertEqual(answer.status, 201)
        session = json.loads(answer.body)
        self.assertEqual(session["server"], str(self.name))
        self.assertEqual(len(session["id"]), 32)
        path = f"/relay/client_session/{session['id']}/tunnel"
        self.assertEqual(session["url"], path)
        self.assertEqual(answer.header("location"), f"https://relay.example.org{path}")

    def test_refusals(self) -> None:
        """Each refusal has its status and a sentence for a person with curl."""
        name, session = str(self.name), "0" * 32
        for method, path, headers, status, words in [
            ("GET", "/", (), 404, "nothing at / here"),
            ("GET", "/relay/server/x/client_sessions/", (), 404, "not a GUID"),
            ("POST", f"/relay/server/{name}/client_sessions/", (), 404, "no server"),
            ("GET", f"/relay/server/{name}/client_sessions/", (), 405, "GET"),
            ("GET", f"/relay/server/{name}/tunnel/upgrade", (), 426, "Upgrade"),
            ("GET", f"/relay/server/{name}/tunnel/pigeon", UPGRADE, 404, "upgrade"),
            (
                "GET",
                f"/relay/client_session/{session}/tunnel/upgrade",
                UPGRADE,
                404,
                "no such session",
            ),
            ("POST", "/relay/statistics/", (), 405, "POST"),
        ]:
            answer = self.ask(method, path, headers)
            self.assertEqual(answer.status, status, path)
            self.assertIn(words, answer.sentence)
            self.assertTrue(answer.sentence.endswith("."), answer.sentence)
        self.assertEqual(
            self.statistics()["ended"]["refused"], {"404": 5, "405": 2, "426": 1}
        )

    def test_unknown_names_look_alike(self) -> None:
        """Nobody learns which systems exist."""
        self.full_pool()
        sizes = set()
        for name in (
            PeerName(self.name.system, uuid.UUID(int=1)),
            PeerName(uuid.UUID(int=1), self.name.server),
        ):
            answer = self.ask("POST", client_sessions_path(name))
            text = answer.body.replace(str(name).encode(), b"X")
            sizes.add((answer.status, text))
        self.assertEqual(len(sizes), 1)

    def test_statistics(self) -> None:
        """The figures say what is there, and name nobody."""
        self.full_pool()
        figures = self.statistics()
        self.assertEqual(figures["now"]["servers"], 1)
        self.assertEqual(figures["now"]["idle_connections"], 7)
        self.assertNotIn(str(self.name.system), json.dumps(figures))
