"""A client's side of one path: verified before anything counts."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionLost,
    ConnectionRefusedError,
)
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory

from dwcloud.errors import (
    ConfigurationError,
    ConnectTimeout,
    IdentityMismatch,
    ServiceRefused,
    SessionRefused,
)
from dwcloud.net.cloud_stream import CloudStream
from dwcloud.net.identity import ServerIdentity
from dwcloud.net.path import VERIFICATION_TIMEOUT, Path
from dwcloud.net.tls import ServerTLS
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.opening.messages import (
    Data,
    End,
    Message,
    Open,
    Ready,
    RefusalCode,
    Refused,
    Start,
    Started,
)
from tests.unit.net.stream_world import (
    AttachAtOnce,
    HalfRecorder,
    Recorder,
    test_identity,
)
from tests.unit.peer.path_world import SESSION, PathWorldTestCase, RecordingFactory

HOSTILE_PORT = 4400


class VerificationTests(PathWorldTestCase):
    """What it takes for a path to count."""

    def hostile(self, factory: Any) -> None:
        """Let something else listen where the server is expected."""
        self.listen(factory, HOSTILE_PORT)

    def failure(self, kind: type[Exception], path: Path | None = None) -> str:
        """How a path to the hostile port fails."""
        opening = self.open(path, HOSTILE_PORT)
        error = self.assertRaises(kind, self.world.run_until, opening)
        self.world.advance(5)
        self.assertEqual(list(self.client_host.reactor.getDelayedCalls()), [])
        self.assertEqual(self.client_host.connections, [])
        return str(error)

    def test_any_server_of_a_system(self) -> None:
        """A path for a system tells which of its servers was found."""
        path = self.path(wanted=PeerName(self.identity.name.system))
        self.assertIs(self.world.run_until(self.open(path)), path)
        self.assertEqual(path.server, self.identity.name)

    def assertHearsNothing(self, identity: ServerIdentity, wanted: PeerName) -> None:
        """A server of this identity gets not one byte, and the client knows why."""
        server = RecordingFactory(Recorder)
        tls = TLSMemoryBIOFactory(
            ServerTLS(identity), False, server, self.server_host.reactor
        )
        self.hostile(tls)
        message = self.failure(IdentityMismatch, self.path(wanted=wanted))
        self.assertIn(str(identity.name), message)
        (heard,) = server.made
        self.assertEqual(bytes(heard.data), b"")

    def test_somebody_else(self) -> None:
        """Another system's server hears nothing of the session, nor of the client."""
        self.assertHearsNothing(test_identity(1), self.identity.name)

    def test_other_system(self) -> None:
        """The same when any server of the system would do."""
        self.assertHearsNothing(test_identity(1), PeerName(self.identity.name.system))

    def test_no_tls(self) -> None:
        """Something that does not speak TLS."""

        class Greeter(Recorder):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.transport.write(b"220 mail.example ESMTP\r\n")

        self.hostile(RecordingFactory(Greeter))
        self.assertIn("TLS failed", self.failure(ConnectionLost))

    def test_closes_at_once(self) -> None:
        """Something that closes."""

        class Closer(Recorder):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.transport.loseConnection()

        self.hostile(RecordingFactory(Closer))
        self.failure(ConnectionLost)

    def test_says_nothing(self) -> None:
        """Something that accepts and is silent does not hold the attempt for ever."""
        self.hostile(RecordingFactory(Recorder))
        before = self.world.seconds()
        message = self.failure(ConnectTimeout)
        self.assertIn("did not prove its identity", message)
        self.assertLess(self.world.seconds() - before, VERIFICATION_TIMEOUT + 6)

    def test_nobody(self) -> None:
        """Nothing listens."""
        self.failure(ConnectionRefusedError)

    def scripted(self, *answers: Message) -> None:
        """A server with the right identity that answers ``OPEN`` so."""
        reactor = self.server_host.reactor

        class Script(AttachAtOnce):
            def message_received(self, stream: CloudStream, message: Message) -> None:
                for answer in answers if isinstance(message, Open) else ():
                    stream.send(answer)

        inner = Factory.forProtocol(lambda: CloudStream(Script(None), reactor))
        inner.noisy = False
        tls = TLSMemoryBIOFactory(ServerTLS(self.identity), False, inner, reactor)
        self.hostile(tls)

    def test_out_of_turn(self) -> None:
        """A server that does not follow the order of the opening is given up."""
        for number, message in enumerate(
            (Started("web"), Data(b"x"), End(), Open(None), Start("web"))
        ):
            with self.subTest(message=message):
                if number:
                    self.setUp()
                self.scripted(message)
                self.assertIn("out of turn", self.failure(ConnectionLost))

    def test_data_before_started(self) -> None:
        """Data for a service that was not started ends a verified path."""
        self.scripted(Ready(), Data(b"x"))
        path = self.world.run_until(self.open(port=HOSTILE_PORT))
        assert path is not None
        self.world.run_until_idle()
        starting = path.start("web", RecordingFactory())
        self.assertRaises(ConnectionLost, self.world.run_until, starting)

    def test_other_refusals(self) -> None:
        """Any refusal ends the path with the server's words."""
        self.scripted(Refused(RefusalCode.BUSY, "come back later"))
        self.assertIn("come back later", self.failure(ServiceRefused))


class LifeTests(PathWorldTestCase):
    """Paths that are given up or lost."""

    def test_cancelled_while_connecting(self) -> None:
        """Cancelling before anybody answered leaves nothing."""
        opening = self.open()
        opening.cancel()
        self.failureResultOf(opening, ConnectingCancelledError)
        self.assertNothingOpen()

    def test_cancelled_while_verifying(self) -> None:
        """Cancelling once TCP is connected closes the path."""
        self.listen(RecordingFactory(Recorder), HOSTILE_PORT)
        opening = self.open(port=HOSTILE_PORT)
        self.world.advance(1)
        self.assertNoResult(opening)
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.world.advance(1)
        self.assertNothingOpen()

    def test_cancelled_at_any_moment(self) -> None:
        """Whenever a path is cancelled, nothing stays on either side."""
        for step in range(12):
            with self.subTest(step=step):
                self.setUp()
                opening = self.open()
                opening.addErrback(lambda reason: None)
                self.world.advance(step * 0.0004)
                if opening.called and isinstance(opening.result, Path):
                    opening.result.close()
                else:
                    opening.cancel()
                self.assertNothingOpen()
                self.assertEqual(self.web.made, [])

    def test_cancelled_while_starting(self) -> None:
        """Cancelling the start closes the path, and the service with it."""
        path = self.world.run_until(self.open())
        assert path is not None
        starting = path.start("web", RecordingFactory())
        self.world.advance(0.0003)
        starting.cancel()
        self.failureResultOf(starting, CancelledError)
        self.assertNothingOpen()
        self.assertTrue(all("lost" in made.calls for made in self.web.made))

    def test_lost_while_held(self) -> None:
        """A path that was lost before it was selected says so at once."""
        path = self.world.run_until(self.open())
        assert path is not None
        self.server_host.power_off()
        connection: Any = path._stream
        connection.abortConnection()
        self.world.advance(1)
        failure = self.failureResultOf(
            path.start("web", RecordingFactory()), ConnectionLost
        )
        self.assertIn("lost meanwhile", failure.getErrorMessage())

    def test_server_gone_while_starting(self) -> None:
        """So does one that is lost while the service is connected."""
        path = self.world.run_until(self.open())
        assert path is not None
        starting = path.start("web", RecordingFactory())
        for connection in self.server_host.connections:
            connection.vanish()
        stream: Any = path._stream
        stream.transport.transport.loseConnection()
        self.assertRaises(ConnectionLost, self.world.run_until, starting)

    def test_factory_that_takes_nothing(self) -> None:
        """A factory that makes no protocol closes the path."""
        factory = RecordingFactory()
        factory.buildProtocol = lambda addr: None  # type: ignore[method-assign]
        path = self.world.run_until(self.open())
        assert path is not None
        starting = path.start("web", factory)
        self.assertRaises(ConnectionLost, self.world.run_until, starting)
        self.assertNothingOpen()

    def test_name_that_is_too_long(self) -> None:
        """A service's name that cannot be sent fails the start and closes the path."""
        path = self.world.run_until(self.open())
        assert path is not None
        starting = path.start("x" * 256, RecordingFactory())
        self.failureResultOf(starting, ConfigurationError)
        self.assertNothingOpen()

    def test_started_early(self) -> None:
        """A path may be started before it is verified, which saves a round trip."""
        path = self.path()
        opening = self.open(path)
        self.world.run_until(lambda: path._stream.connected)
        starting = path.start("web", RecordingFactory(HalfRecorder))
        self.world.run_until(opening)
        client: Any = self.world.run_until(starting)
        client.transport.write(b"x")
        self.world.run_until_idle()
        self.assertEqual(bytes(self.web.made[0].data), b"x")

    def begin(self, path: Path, service: str = "web") -> Any:
        """Let a path be begun as soon as it may be; the client's factory."""
        factory = RecordingFactory(HalfRecorder)
        path.on_open = lambda opened: self.begun.append(opened.begin(service, factory))
        return factory

    def test_begun(self) -> None:
        """What was begun needs one flight after TLS: the service is there at once."""
        took = []
        for early in (True, False):
            self.setUp()
            self.begun: list[bool] = []
            path = self.path()
            factory = self.begin(path) if early else RecordingFactory(HalfRecorder)
            before = self.world.seconds()
            self.world.run_until(self.open(path))
            client: Any = self.world.run_until(path.start("web", factory))
            took.append(self.world.seconds() - before)
            self.assertEqual(self.begun, [True] if early else [])
            client.transport.write(b"x")
            self.world.run_until_idle()
            self.assertEqual(bytes(self.web.made[0].data), b"x")
        self.assertLess(took[0], took[1])

    def test_begun_after_the_proof(self) -> None:
        """Inside TLS a path is begun when the far end has proven itself, not before."""
        self.begun = []
        path = self.path(wanted=test_identity(1).name)
        self.begin(path)
        opening = self.open(path)
        self.assertRaises(IdentityMismatch, self.world.run_until, opening)
        self.assertEqual((self.begun, path.proven), ([], False))

    def test_begun_and_refused(self) -> None:
        """A service that is not there is told to who starts the path."""
        self.begun = []
        path = self.path()
        factory = self.begin(path, "nothing")
        self.world.run_until(self.open(path))
        self.world.run_until_idle()
        starting = path.start("nothing", factory)
        self.assertRaises(ServiceRefused, self.world.run_until, starting)
        self.assertNothingOpen()

    def test_begun_without_session(self) -> None:
        """An unknown session is refused, and its START is never looked at."""
        self.begun = []
        path = self.path(SESSION.__class__(int=99))
        self.begin(path)
        self.assertRaises(SessionRefused, self.world.run_until, self.open(path))
        self.world.run_until_idle()
        self.assertEqual((self.begun, self.web.made), ([True], []))
        self.assertNothingOpen()

    def test_begun_and_lost(self) -> None:
        """That it was lost is told to who starts it; nobody else hears an error."""
        self.begun = []
        path = self.path()
        factory = self.begin(path)
        self.world.run_until(self.open(path))
        self.world.run_until_idle()
        path.close()
        self.world.run_until_idle()
        client = self.successResultOf(path.start("web", factory))
        self.assertEqual(client.calls[-1], "lost", client.calls)

    def test_begun_with_a_long_name(self) -> None:
        """A name that cannot be sent is told by the start."""
        self.begun = []
        path = self.path()
        factory = self.begin(path, "x" * 256)
        self.world.run_until(self.open(path))
        self.assertEqual(self.begun, [False])
        self.failureResultOf(path.start("x" * 256, factory), ConfigurationError)
        self.assertNothingOpen()

    def test_later_streams(self) -> None:
        """One session serves several streams."""
        for _ in range(3):
            self.start(path=self.world.run_until(self.open(self.path(SESSION))))
        self.assertEqual(len(self.web.made), 3)
