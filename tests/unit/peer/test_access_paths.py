"""Paths to a server whose system is bound to a cloud: it wants a grant and its key."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost

from dwcloud.errors import AccessDenied, SessionRefused
from dwcloud.net.path import Path
from dwcloud.net.signing import SigningKey
from dwcloud.peer.server_access import ServerAccess
from dwcloud.peer.status import PathKind
from dwcloud.protocol.grants import (
    NOBODY,
    AccessState,
    ClientGrant,
    GrantKind,
    Revocation,
)
from dwcloud.protocol.log_ids import log_id
from dwcloud.protocol.mediation.activity import Activity
from dwcloud.protocol.mediation.messages import AccessChanged
from dwcloud.protocol.opening.messages import Message, Open, RefusalCode, Refused, Start

from .cloud_grants import ANN, TestCloud
from .path_world import SESSION, PathWorldTestCase


class BoundServerCase(PathWorldTestCase):
    """A server with a cloud, and a client."""

    plain = False

    def setUp(self) -> None:
        super().setUp()
        self.cloud = TestCloud()
        self.access = ServerAccess(
            self.cloud.membership, self.identity.name, self.world.seconds
        )
        self.acceptor.access = self.access
        if self.plain:
            self.acceptor.plain_services.add("web")

    def grant(self, **values: Any) -> ClientGrant:
        """Give the client a grant."""
        return self.cloud.grant(self.identity.name, self.world.seconds(), **values)

    def change(self, state: AccessState, *revocations: Revocation) -> None:
        """Let the mediator say something."""
        self.access.change(AccessChanged(state=state, revocations=revocations))

    def admitted(self, grant: ClientGrant | None = None, **options: Any) -> Path:
        """Open a path that is let in."""
        grant = grant or self.grant()
        path = self.world.run_until(
            self.open(self.path(grant=grant, tls=not self.plain, **options))
        )
        assert path is not None
        return path

    def denied(self, grant: ClientGrant | None, **options: Any) -> str:
        """Open a path that is refused; return the reason."""
        path = self.path(grant=grant, tls=not self.plain, **options)
        error = self.assertRaises(AccessDenied, self.world.run_until, self.open(path))
        self.assertNothingOpen()
        self.assertEqual(self.happened()[-1], "stream_refused")
        self.assertEqual(self.web.made, [])
        return str(error)


class AdmissionTests(BoundServerCase):
    """Who is let in, inside TLS."""

    def test_member(self) -> None:
        """A member's stream opens, and the server's events say whose it is."""
        self.start(path=self.admitted())
        (event,) = self.events
        self.assertEqual(
            (event.details["account"], event.details["role"]), ("ann", "viewer")
        )

    def test_without_grant(self) -> None:
        """A session that the mediator announced is not enough, nor is the network."""
        self.assertIn("account", self.denied(None))
        self.assertIn("account", self.denied(None, session=None))

    def test_neighbour(self) -> None:
        """A member in the same network needs no mediator."""
        self.start(path=self.admitted(session=None))
        self.assertEqual(self.events[0].details["path"], "lan")

    def test_stolen_grant(self) -> None:
        """A grant without its key opens nothing."""
        grant = self.grant()
        for thief in (
            ClientGrant(grant.encoded),
            ClientGrant(grant.encoded, SigningKey.generate().sign),
        ):
            self.assertIn("somebody else's", self.denied(thief))

    def test_unknown_session(self) -> None:
        """A grant is no session: elsewhere than on the LAN both are needed."""
        self.world.advance(1000)
        path = self.path(grant=self.grant())
        self.assertRaises(SessionRefused, self.world.run_until, self.open(path))

    def test_public(self) -> None:
        """To a public system a grant for everybody opens, and only to such a one."""
        now = self.world.seconds()
        everybody = ClientGrant(
            self.cloud.sign(self.identity.name, now, account=NOBODY)
        )
        self.denied(everybody)
        self.change(AccessState(is_bound=True, is_public=True))
        self.start(path=self.admitted(everybody))

    def test_begun_path(self) -> None:
        """A START right behind a refused OPEN connects no service."""
        path = self.path()
        path.on_open = lambda opened: opened.begin("web", self.web) and None
        self.assertRaises(AccessDenied, self.world.run_until, self.open(path))
        self.assertEqual(self.web.made, [])
        begun = self.path(grant=self.grant())
        begun.on_open = lambda opened: opened.begin("web", self.web) and None
        self.world.run_until(self.open(begun))
        self.start(path=begun)

    def test_replayed_on_another_connection(self) -> None:
        """A possession belongs to one TLS connection: a recording opens no other."""
        said: list[Open] = []
        grant = self.grant()
        judge = self.access.check_path

        def record(*args: Any, **options: Any) -> Any:
            said.append(Open(args[2], "me", b"", args[0], args[1]))
            return judge(*args, **options)

        self.access.check_path = record  # type: ignore[method-assign]
        self.admitted(grant)
        stream, owner = self.stranger()
        stream.send(said[0])
        self.world.run_until_idle()
        message = owner.messages[0]
        assert isinstance(message, Refused)
        self.assertIs(message.code, RefusalCode.ACCESS_DENIED)
        self.assertIn("somebody else's", message.reason)

    def test_any_open(self) -> None:
        """What a stranger makes up is refused, and no service is connected."""
        for number, grant in enumerate((b"", b"x", bytes(243))):
            stream, owner = self.stranger()
            for message in (Open(SESSION, "s", b"", grant, b"y" * 64), Start("web")):
                stream.send(message)
            self.world.run_until_idle()
            refused: Message = owner.messages[0]
            self.assertIsInstance(refused, Refused, number)
        self.assertEqual(self.web.made, [])


class CutTests(BoundServerCase):
    """Streams end when their grants count no more."""

    def test_running_stream(self) -> None:
        """Both ends learn that it is over at once, the service included."""
        client = self.start(path=self.admitted())
        self.world.run_until_idle()
        self.assertEqual(len(self.access), 1)
        now_ms = round(self.world.seconds() * 1000)
        self.change(AccessState(is_bound=True), Revocation(ANN, now_ms))
        self.world.run_until_idle()
        self.assertIsInstance(client.lost, ConnectionLost)
        self.assertIsNotNone(self.web.made[0].lost)
        self.assertEqual(self.happened(), ["stream_opened", "stream_closed"])
        self.assertIn("taken away", self.events[1].details["reason"])
        self.assertEqual(len(self.access), 0)
        self.assertNothingOpen()

    def test_path_that_is_ready(self) -> None:
        """A path that was admitted and not started yet ends, too."""
        path = self.admitted()
        lost: list[Any] = []
        path.on_lost = lost.append
        self.change(AccessState(is_bound=False))
        self.world.run_until_idle()
        self.assertEqual(len(lost), 1)
        self.assertNothingOpen()

    def test_nothing_is_kept_of_ended_streams(self) -> None:
        """However a stream ends, the server forgets it."""
        client = self.start(path=self.admitted())
        client.transport.loseConnection()
        self.web.made[0].transport.loseConnection()
        self.admitted().close()
        self.world.run_until_idle()
        self.assertEqual(len(self.access), 0)


class PlainTests(BoundServerCase):
    """Without TLS, for applications that encrypt by themselves."""

    plain = True

    def test_member(self) -> None:
        """A member is let in, with a session and as a neighbour."""
        self.start(path=self.admitted())
        self.start(path=self.admitted(session=None))

    def test_denied(self) -> None:
        """Others are not."""
        self.denied(None)
        self.denied(ClientGrant(self.grant().encoded, SigningKey.generate().sign))

    def test_recorded(self) -> None:
        """What an onlooker has heard opens no second path."""
        said: list[Open] = []
        grant = self.grant()
        first = self.path(tls=False, grant=grant)
        send = first._core.send
        first._core.send = lambda m: said.append(m) or send(m)  # type: ignore[arg-type,func-returns-value]
        self.world.run_until(self.open(first))
        second = self.path(tls=False, grant=None)
        second._core.opening = said[0]
        error = self.assertRaises(AccessDenied, self.world.run_until, self.open(second))
        self.assertIn("used before", str(error))


class GatewayTests(BoundServerCase):
    """Relays that let browsers in come without a session."""

    kind = PathKind.RELAY

    def gateway(self) -> ClientGrant:
        """Give a relay a gateway grant."""
        return self.grant(kind=GrantKind.GATEWAY)

    def test_where_the_owner_wants_it(self) -> None:
        """With web access, and by a relay only."""
        self.denied(self.gateway(), session=None)
        self.change(AccessState(is_bound=True, has_web=True))
        path = self.path(grant=self.gateway())
        self.assertRaises(AccessDenied, self.world.run_until, self.open(path))
        self.start(path=self.admitted(self.gateway(), session=None))

    def test_client_without_session(self) -> None:
        """A client's grant does not do in the place of a gateway's."""
        self.change(AccessState(is_bound=True, has_web=True))
        path = self.path(None, grant=self.grant())
        self.assertRaises(SessionRefused, self.world.run_until, self.open(path))

    def test_not_directly(self) -> None:
        """By a direct connection nobody is a gateway."""
        self.change(AccessState(is_bound=True, has_web=True))
        self.acceptor.is_local = lambda host: False
        self.listen(self.acceptor.factory(PathKind.TCP), 4100)
        path = self.path(None, grant=self.gateway())
        refused = self.open(path, 4100)
        self.assertRaises(SessionRefused, self.world.run_until, refused)

    def test_server_without_cloud(self) -> None:
        """A server that cannot check a gateway's grant lets none in."""
        self.acceptor.access = None
        path = self.path(None, grant=self.gateway())
        self.assertRaises(SessionRefused, self.world.run_until, self.open(path))


class ActivityTests(BoundServerCase):
    """What the server can tell of the streams that it carries."""

    def test_streams(self) -> None:
        """Open streams are told with account, path and bytes; ended ones are not."""
        told: list[int] = []
        self.acceptor.on_running = lambda: told.append(len(self.acceptor.running))
        path = self.admitted()
        self.assertEqual(self.acceptor.activity().count, 0)
        client = self.start(path=path)
        client.transport.write(b"x" * 10)
        self.web.made[0].transport.write(b"y" * 30)
        self.world.advance(5)
        [stream] = self.acceptor.activity().streams
        self.assertEqual((stream.account, stream.client), ("ann", "me"))
        self.assertEqual((stream.path, stream.age), ("tcp", 5))
        self.assertEqual(str(stream.session), log_id(SESSION))
        self.assertEqual((stream.to_server, stream.to_client), (10, 30))
        client.transport.loseConnection()
        self.world.run_until_idle()
        self.web.made[0].transport.loseConnection()
        self.world.run_until_idle()
        self.assertEqual(self.acceptor.activity(), Activity(0, ()))
        self.assertEqual(told, [1, 0])

    def test_numbers(self) -> None:
        """Each stream has its own number, which no later one gets."""
        first = self.start(path=self.admitted(session=None))
        self.start(path=self.admitted(session=None))
        before = [s.number for s in self.acceptor.activity().streams]
        first.transport.abortConnection()
        self.world.run_until_idle()
        self.start(path=self.admitted(session=None))
        after = [s.number for s in self.acceptor.activity().streams]
        self.assertEqual((before, after), ([1, 2], [2, 3]))
        self.assertIsNone(self.acceptor.activity().streams[0].session)
