"""The relay's answers: proofs, tickets, refusals, figures."""

from __future__ import annotations

import json
import uuid

from twisted.internet.endpoints import connectProtocol
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from dwcloud.net.http_client import HTTPAnswer, HTTPClientConnection
from dwcloud.net.identity import ServerIdentity
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.paths import client_sessions_path, server_tunnel_path
from dwcloud.protocol.relaying.proof import Proof, make_proof
from tests.unit.net.stream_world import Recorder, test_identity
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
        """A recorded proof opens no connection, and no other server's."""
        connection = self.http()
        proof = self.proof(self.challenge(connection), self.identity).encode()
        other = test_identity(1)
        path, self.path = self.path, f"{server_tunnel_path(other.name)}/upgrade"
        self.assertEqual(self.register(proof, self.http()).status, 401)
        self.path = path
        # The answer may come on another connection than the challenge went.
        self.assertEqual(self.register(proof, self.http()).status, 101)
        self.assertEqual(self.register(proof, connection).status, 401)
        self.assertEqual(self.register(proof, self.http()).status, 401)
        self.assertEqual(self.relay.pairing.idle_connections, 1)

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

    def offered(self) -> Recorder:
        """An idle connection of the server, whose lines it records."""
        connection = self.http()
        proof = self.proof(self.challenge(connection), self.identity)
        self.register(proof.encode(), connection)
        server = Recorder()
        connection.upgrade_to(server)
        return server

    def joined(self, server: Recorder) -> Recorder:
        """Join a client with it."""
        client = Recorder()
        connecting = connectProtocol(self.client(method="upgrade"), client)
        self.world.run_until(lambda: b"OPEN_TUNNEL" in server.data)
        connecting.addErrback(lambda failure: client.connectionLost(failure))
        return client

    def test_answers_are_not_the_clients(self) -> None:
        """What answers a KEEP_ALIVE of before OPEN_TUNNEL is taken out."""
        server = self.offered()
        client = self.joined(server)
        self.assertEqual(bytes(server.data).count(b"KEEP_ALIVE"), 1)
        server.transport.write(b"KEEP_")
        self.world.advance(1.0)
        server.transport.write(b"ALIVE\r\nthe server's")
        self.world.run_until(lambda: client.data == b"the server's")
        client.transport.write(b"the client's")
        self.world.run_until(lambda: server.data.endswith(b"\r\nthe client's"))
        client.transport.loseConnection()
        self.world.run_until(lambda: server.lost is not None)

    def test_wrong_answer(self) -> None:
        """A server that has something else to say is no use for a client."""
        server = self.offered()
        client = self.joined(server)
        server.transport.write(b"KEEP_ALL\r\n")
        self.world.run_until(lambda: server.lost is not None)
        self.world.run_until(lambda: client.lost is not None)
        self.assertEqual(bytes(client.data), b"")

    def test_no_answer(self) -> None:
        """A server that leaves three questions unanswered is gone."""
        server = self.offered()
        self.world.advance(59.0)
        self.assertIsNone(server.lost)
        self.assertEqual(self.relay.pairing.idle_connections, 1)
        self.world.advance(2.0)
        self.assertIsNotNone(server.lost)
        self.assertEqual(self.relay.pairing.idle_connections, 0)

    def test_answering_server(self) -> None:
        """One that answers is asked every 20 s and stays."""
        server = self.offered()
        self.world.advance(1.0)
        for _ in range(10):
            self.assertEqual(bytes(server.data), b"KEEP_ALIVE\r\n")
            server.data.clear()
            server.transport.write(b"KEEP_ALIVE\r\n")
            self.world.advance(20.0)
        self.assertIsNone(server.lost)
        self.assertEqual(self.relay.pairing.idle_connections, 1)
        server.transport.abortConnection()

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
            ("GET", "/index.html", (), 404, "nothing at /index.html here"),
            ("GET", "/relay/server/x/client_sessions/", (), 404, "not a GUID"),
            ("POST", f"/relay/server/{name}/client_sessions/", (), 404, "no server"),
            ("GET", f"/relay/server/{name}/client_sessions/", (), 405, "GET"),
            ("GET", f"/relay/server/{name}/tunnel/upgrade", (), 426, "Upgrade"),
            ("GET", f"/relay/server/{name}/client_tunnel/upgrade", (), 426, "Upgrade"),
            (
                "GET",
                f"/relay/server/{name}/client_tunnel/upgrade",
                UPGRADE,
                404,
                "no server",
            ),
            ("POST", f"/relay/server/{name}/client_tunnel/upgrade", (), 405, "POST"),
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
            self.statistics()["ended"]["refused"], {"404": 6, "405": 3, "426": 2}
        )

    def test_front_page(self) -> None:
        """A browser that comes by mistake gets a page that says where it is."""
        answer = self.ask("GET", "/")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.header("content-type"), "text/html; charset=utf-8")
        self.assertIn(b"<h1>dwcloud relay</h1>", answer.body)
        self.assertEqual(self.ask("POST", "/").status, 405)

    def test_connect_session(self) -> None:
        """What logs call a client's session is noted; what is no name is not."""
        self.full_pool()
        logged: list[str] = []

        def observe(event: LogEvent) -> None:
            logged.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        path = client_sessions_path(self.name)
        session = "0190163d-8694-8c3e-9a00-7ab7d7b42e1d"
        for said in (session, session.upper(), "x session y: joined", "\xe9" * 36):
            fields = ((b"dwcloud-connect-session", said.encode("latin-1")),)
            self.assertEqual(self.ask("POST", path, fields).status, 201)
        begin = [line.partition(": ")[0] for line in logged if "created for" in line]
        known = f"session {session}"
        self.assertEqual(begin, [known, known, "session unknown", "session unknown"])
        self.assertEqual([line for line in logged if "joined" in line], [])

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
