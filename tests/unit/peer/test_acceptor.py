"""A server's side of paths: who is admitted, and to which service."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost

from dwcloud.errors import ServiceRefused, SessionRefused
from dwcloud.peer import acceptor as acceptor_module
from dwcloud.peer.acceptor import OPENING_TIMEOUT
from dwcloud.peer.openings import Openings
from dwcloud.peer.status import PathKind
from dwcloud.protocol.log_ids import log_id
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
from tests.unit.net.stream_world import HalfRecorder, Source, pattern
from tests.unit.peer.path_world import SESSION, PathWorldTestCase, RecordingFactory


class AdmissionTests(PathWorldTestCase):
    """Which paths are let in."""

    def test_known_session(self) -> None:
        """A client of a session that the mediator announced is let in."""
        path = self.world.run_until(self.open())
        assert path is not None
        self.assertEqual(path.server, self.identity.name)
        self.assertEqual(path.remote_address, "192.168.1.2:4000")
        self.assertEqual(self.acceptor.opening.total(), 1)

    def test_unknown_session(self) -> None:
        """Any other is turned away, and the connection is closed."""
        self.world.advance(1000)
        self.assertRaises(SessionRefused, self.world.run_until, self.open())
        self.assertNothingOpen()
        (event,) = self.events
        self.assertEqual(event.event, "stream_refused")
        self.assertEqual(event.details["connect_session_id"], log_id(SESSION))

    def test_neighbour(self) -> None:
        """Who is in the same network needs no session, and counts as a LAN path."""
        path = self.world.run_until(self.open(self.path(None)))
        self.start(path=path)
        (event,) = self.events
        self.assertEqual(event.details["path"], "lan")
        self.assertIsNone(event.details["connect_session_id"])

    def test_stranger_without_session(self) -> None:
        """From anywhere else a session is required."""
        self.acceptor.is_local = lambda host: False
        refused = self.open(self.path(None))
        error = self.assertRaises(SessionRefused, self.world.run_until, refused)
        self.assertIn("mediator", str(error))
        self.assertNothingOpen()

    def test_neighbour_by_other_paths(self) -> None:
        """Through a relay or a hole nobody is a neighbour, whatever the address."""
        for number, kind in enumerate((PathKind.RELAY, PathKind.UDP)):
            self.listen(self.acceptor.factory(kind), 4100 + number)
            refused = self.open(self.path(None), 4100 + number)
            self.assertRaises(SessionRefused, self.world.run_until, refused)

    def test_using_a_session_keeps_it(self) -> None:
        """A session that is used stays known."""
        for _ in range(5):
            self.world.advance(500)
            path = self.world.run_until(self.open())
            assert path is not None
            path.close()


class ServiceTests(PathWorldTestCase):
    """Which service is connected."""

    def refusal(self, service: str) -> str:
        """Why a service is refused."""
        error = self.assertRaises(ServiceRefused, self.start, service)
        self.assertNothingOpen()
        self.assertEqual(self.happened(), ["stream_refused"])
        return str(error)

    def test_data(self) -> None:
        """The stream reaches the service, both ways, to the last byte."""
        client = self.start()
        (server,) = self.web.made
        up, down = pattern(1_000_000, 1), pattern(1_000_000, 2)
        Source(self.client_host.reactor, client.transport, up)
        server.transport.write(down)
        client.transport.loseWriteConnection()
        self.world.run_until_idle()
        self.assertSame(bytes(server.data), up)
        self.assertSame(bytes(client.data), down)
        self.assertEqual(server.calls, ["made", "data", "read ended"])
        server.transport.loseConnection()
        self.world.run_until_idle()
        self.assertIsInstance(client.lost, ConnectionDone)
        self.assertIsInstance(server.lost, ConnectionDone)
        self.assertNothingOpen()
        self.assertEqual(self.happened(), ["stream_opened", "stream_closed"])
        details = dict(self.events[-1].details)
        self.assertTrue(str(details.pop("remote_address")).startswith("192.168.1.3:"))
        self.assertIn("reason", details)
        del details["reason"]
        self.assertEqual(
            details,
            {
                "service": "web",
                "path": "tcp",
                "client": "me",
                "connect_session_id": log_id(SESSION),
                "bytes_received": len(up),
                "bytes_sent": len(down),
            },
        )

    def test_service_greets_first(self) -> None:
        """What a service says at once is not lost behind the opening."""

        class Greeter(HalfRecorder):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.transport.write(b"SSH-2.0-test\r\n")

        self.web._protocol = Greeter
        client = self.start()
        self.world.run_until_idle()
        self.assertEqual(bytes(client.data), b"SSH-2.0-test\r\n")

    def test_service_breaks(self) -> None:
        """A service that breaks is no orderly end for the client."""
        client = self.start()
        self.web.made[0].transport.write(b"part")
        self.world.run_until_idle()
        self.web.made[0].transport.abortConnection()
        self.world.run_until_idle()
        self.assertEqual(bytes(client.data), b"part")
        self.assertIsInstance(client.lost, ConnectionLost)
        self.assertNothingOpen()

    def test_client_breaks(self) -> None:
        """Nor is a client that vanishes one for the service."""
        client = self.start()
        client.transport.abortConnection()
        self.world.run_until_idle()
        self.assertIsInstance(self.web.made[0].lost, ConnectionLost)
        self.assertNothingOpen()

    def test_unknown_name(self) -> None:
        """The refusal names what there is."""
        self.acceptor.services["ssh"] = self.service(22)
        message = self.refusal("wbe")
        self.assertIn("no service 'wbe'", message)
        self.assertIn("ssh, web", message)

    def test_nothing_published(self) -> None:
        """So it does when there is nothing."""
        self.acceptor.services.clear()
        self.assertIn("it offers: nothing", self.refusal("web"))

    def test_the_only_one(self) -> None:
        """A server's only service needs no name."""
        self.start("")
        self.assertEqual(len(self.web.made), 1)
        self.assertEqual(self.events[0].details["service"], "web")

    def test_one_of_several(self) -> None:
        """Without a name there must be only one."""
        self.acceptor.services["ssh"] = self.service(22)
        message = self.refusal("")
        self.assertIn("more than one service", message)
        self.assertIn("ssh, web", message)

    def test_long_name_beyond_ascii(self) -> None:
        """Whatever name was asked for, the refusal arrives."""
        self.acceptor.services["\N{PILE OF POO}" * 200] = self.service(1)
        self.assertIn("no service", self.refusal("\N{GRINNING FACE}" * 255))

    def test_unreachable(self) -> None:
        """A service that does not run is told from a name that is not known."""
        self.acceptor.services["ssh"] = self.service(22)
        message = self.refusal("ssh")
        self.assertIn("cannot reach its service 'ssh'", message)

    def test_in_this_process(self) -> None:
        """A factory serves as well as an address."""
        here = RecordingFactory()
        self.acceptor.services["here"] = here
        client = self.start("here")
        client.transport.write(b"x")
        self.world.run_until_idle()
        self.assertEqual(bytes(here.made[0].data), b"x")
        here.made[0].transport.loseConnection()
        self.world.run_until_idle()
        self.assertIsInstance(client.lost, ConnectionDone)
        self.assertNothingOpen()

    def test_factory_that_takes_nobody(self) -> None:
        """A factory may refuse."""
        here = RecordingFactory()
        here.buildProtocol = lambda addr: None  # type: ignore[method-assign]
        self.acceptor.services["here"] = here
        self.assertIn("takes no connection now", self.refusal("here"))

    def test_only_the_selected_path(self) -> None:
        """Of two verified paths only the one that is started reaches the service."""
        one = self.world.run_until(self.open())
        two = self.world.run_until(self.open())
        assert one is not None and two is not None
        self.world.advance(5)
        self.assertEqual(self.web.made, [])
        one.close()
        client = self.start(path=two)
        client.transport.write(b"x")
        self.world.run_until_idle()
        self.assertEqual([bytes(made.data) for made in self.web.made], [b"x"])
        self.assertEqual(self.happened(), ["stream_opened"])
        self.assertEqual(self.acceptor.opening.total(), 0)

    def test_client_gone_while_connecting(self) -> None:
        """A client that is gone before its service answers leaves nothing there."""
        self.acceptor.services["far"] = self.far_service()
        path = self.world.run_until(self.open())
        assert path is not None
        starting = path.start("far", RecordingFactory())
        starting.addErrback(lambda reason: None)
        self.world.advance(0.01)
        path.close()
        self.world.advance(1)
        self.assertEqual(self.events, [])
        self.assertNothingOpen()


class HostileClientTests(PathWorldTestCase):
    """Clients that break the rules."""

    def said(self, *messages: Message) -> list[Message]:
        """What a client hears that says these, until the server closes."""
        stream, owner = self.stranger()
        for message in messages:
            stream.send(message)
        self.world.run_until_idle()
        self.assertIsNotNone(owner.lost)
        self.assertEqual(self.web.made, [])
        self.assertNothingOpen()
        return owner.messages

    def test_out_of_turn(self) -> None:
        """What does not follow the order of the opening ends the path."""
        known = Open(SESSION)
        self.assertEqual(self.said(Start("web")), [])
        self.assertEqual(self.said(Data(b"x")), [])
        self.assertEqual(self.said(End()), [])
        self.assertEqual(self.said(Ready()), [])
        self.said(known, known)
        self.said(known, Started("web"))
        self.said(known, Refused(RefusalCode.BUSY, ""))
        self.said(known, Data(b"x"))

    def test_start_behind_a_refused_open(self) -> None:
        """START that came right behind is not taken: the refusal says why."""
        unknown = Open(SESSION.__class__(int=99))
        for starts in (1, 3):
            refused, *_ = self.said(unknown, *[Start("web")] * starts)
            assert isinstance(refused, Refused)
            self.assertIs(refused.code, RefusalCode.UNKNOWN_SESSION)

    def test_started_twice(self) -> None:
        """A second START ends the path, and does not connect the service again."""
        stream, owner = self.stranger()
        for message in (Open(SESSION), Start("web"), Start("web")):
            stream.send(message)
        self.world.run_until_idle()
        self.assertIsInstance(owner.lost, ConnectionLost)
        self.world.advance(1)
        self.assertLessEqual(len(self.web.made), 1)
        self.assertTrue(all("lost" in made.calls for made in self.web.made))
        self.assertNothingOpen()

    def test_data_before_started(self) -> None:
        """Data ahead of the service is not kept, so it cannot fill the memory."""
        self.acceptor.services["far"] = self.far_service()
        stream, owner = self.stranger()
        stream.send(Open(SESSION))
        stream.send(Start("far"))
        stream.send(Data(bytes(1000)))
        self.world.run_until_idle()
        self.assertIsInstance(owner.lost, ConnectionLost)
        self.assertNothingOpen()

    def test_silence(self) -> None:
        """Who connects and says nothing is cut off."""
        silent = RecordingFactory()
        self.connect_plainly(silent)
        _, owner = self.stranger()
        self.assertEqual(self.acceptor.opening.total(), 2)
        self.world.advance(OPENING_TIMEOUT + 1)
        self.assertIsNotNone(silent.made[0].lost)
        self.assertIsNotNone(owner.lost)
        self.assertNothingOpen()

    def connect_plainly(self, factory: Any) -> None:
        """Open a TCP connection without TLS."""
        endpoint = TCP4ClientEndpoint(self.client_host.reactor, "192.168.1.2", 4000)
        self.world.run_until(endpoint.connect(factory))
        self.world.run_until_idle()

    def test_verified_and_then_silent(self) -> None:
        """So is who is let in and never selects the path."""
        stream, owner = self.stranger()
        stream.send(Open(SESSION))
        self.world.run_until_idle()
        self.assertEqual(owner.messages, [Ready()])
        self.world.advance(OPENING_TIMEOUT)
        self.assertIsNotNone(owner.lost)
        self.assertNothingOpen()

    def test_refused_and_never_closing(self) -> None:
        """Who is refused and does not close is cut off, and counts until then."""
        self.world.advance(1000)
        stream, _ = self.stranger()
        tls: Any = stream.transport
        # A client that reads nothing does not see that it should close.
        stream.send(Open(SESSION))
        tls.pauseProducing()
        self.world.run_until_idle()
        self.assertEqual(self.happened(), ["stream_refused"])
        self.assertEqual(self.acceptor.opening.total(), 1)
        self.world.advance(OPENING_TIMEOUT)
        self.assertEqual(self.acceptor.opening.total(), 0)
        self.assertEqual(self.server_host.connections, [])

    def test_no_tls(self) -> None:
        """Who does not speak TLS is closed without an answer of ours."""

        class Browser(HalfRecorder):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.transport.write(b"GET / HTTP/1.1\r\n\r\n")

        factory = RecordingFactory(Browser)
        self.connect_plainly(factory)
        self.world.advance(1)
        self.assertEqual(self.acceptor.opening.total(), 0)

    def test_flood(self) -> None:
        """Half-open paths have a limit; the oldest make room, clients get through."""
        self.acceptor.opening = Openings(20)
        flood = RecordingFactory(HalfRecorder)
        for _ in range(50):
            self.connect_plainly(flood)
        self.assertEqual(self.acceptor.opening.total(), 20)
        self.assertEqual(self.acceptor.opening.evicted, 30)
        self.start()
        self.world.advance(OPENING_TIMEOUT)
        self.assertEqual(self.acceptor.opening.total(), 0)

    def test_open_streams_do_not_count(self) -> None:
        """Streams that are open take no place in the opening."""
        self.patch(acceptor_module, "_MAX_OPENING", 1)
        for _ in range(3):
            self.start()
        self.assertEqual(len(self.web.made), 3)
