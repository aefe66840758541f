"""A client's way to a server by a relay, against relays good and bad."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectingCancelledError, ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dwcloud.errors import ConfigurationError, ConnectTimeout, RelayRefused
from dwcloud.net.http_messages import Reply, Request, json_response, plain_response
from dwcloud.net.http_server import HTTPServerFactory
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.peer.head_start import HeadStart
from dwcloud.peer.relay_client import RelayClientEndpoint
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.tunnelling.prober import Carrier
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.testing import World
from tests.unit.net.stream_world import Recorder, test_identity

NAME = test_identity().name
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
    b"Upgrade: dwcloud-relay\r\n\r\n"
)
END = b"\r\n\r\n"
OLDER = b"HTTP/1.1 404 Not Found\r\nDWCloud: 1\r\nContent-Length: 0\r\n\r\n"
SESSION = {"id": "1" * 32, "server": str(NAME), "url": "/session/tunnel"}


class RelayClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(seed=1)
        internet = self.world.internet()
        self.relay = internet.host("203.0.113.5")
        self.other_relay = internet.host("203.0.113.6")
        self.host = internet.host("203.0.113.20")
        self.requests: list[Request] = []
        self.replies: list[Reply] = []

    def serve(self, host: Any, *replies: Reply, older: bool = True) -> None:
        """Answer requests to ``host`` one by one.

        :param older: whether to know no tunnels that begin a session of their own.
        """
        left = list(replies)

        def application(request: Request) -> Reply:
            if older and "/client_tunnel/" in request.path:
                return plain_response(404, "There is nothing here.")
            self.requests.append(request)
            return left.pop(0)

        host.reactor.listenTCP(80, HTTPServerFactory(application, host.reactor))

    def serve_raw(self, *answers: bytes | None) -> None:
        """Answer whatever comes with bytes, one piece for each piece.

        None stands for the piece itself and more. Tunnels without a session are not
        known to it.
        """
        left = list(answers)

        class Raw(Recorder):
            def dataReceived(self, data: bytes) -> None:
                if left and b"/client_tunnel/" in data:
                    self.transport.write(OLDER)
                elif left:
                    answer = left.pop(0)
                    self.transport.write(data + b"early" if answer is None else answer)

        self.relay.reactor.listenTCP(80, Factory.forProtocol(Raw))

    def endpoint(self, url: str = "http://203.0.113.5", **options: Any) -> Any:
        options.setdefault("method", "upgrade")
        return RelayClientEndpoint(self.host.reactor, url, NAME, **options)

    def refused(self, **options: Any) -> RelayRefused:
        connecting = connectProtocol(self.endpoint(**options), Recorder())
        error = self.assertRaises(RelayRefused, self.world.run_until, connecting)
        assert isinstance(error, RelayRefused)
        return error

    def test_interface(self) -> None:
        """It is a client endpoint like any other."""
        verifyObject(IStreamClientEndpoint, self.endpoint())

    def test_two_requests_on_one_connection(self) -> None:
        """A session and its tunnel take one TCP connection, and one name."""
        self.serve(
            self.relay, json_response(201, SESSION), plain_response(503, "Busy.")
        )
        error = self.refused(client_name="Bob's laptop")
        self.assertEqual(str(error), "relay http://203.0.113.5: Busy.")
        self.assertEqual(error.status, 503)
        session, tunnel = self.requests
        self.assertIs(session.connection, tunnel.connection)
        self.assertEqual(
            (session.method, session.path),
            ("POST", f"/relay/server/{NAME}/client_sessions/"),
        )
        self.assertEqual(
            (tunnel.method, tunnel.path), ("GET", "/session/tunnel/upgrade")
        )
        for request in self.requests:
            self.assertEqual(request.header("dwcloud-client"), "Bob%27s%20laptop")

    def test_one_request(self) -> None:
        """A relay of today needs one, and gets what follows it at once."""
        self.serve(self.relay, plain_response(503, "Busy."), older=False)
        error = self.refused(client_name="Bob")
        self.assertEqual(str(error), "relay http://203.0.113.5: Busy.")
        (request,) = self.requests
        self.assertEqual(
            (request.method, request.path),
            ("GET", f"/relay/server/{NAME}/client_tunnel/upgrade"),
        )
        self.assertEqual(request.header("dwcloud-client"), "Bob")

    def head_start(self) -> HeadStart:
        """A connection to the relay that is open when it is wanted."""
        url, reactor = ServiceURL.parse("http://203.0.113.5"), self.host.reactor
        connecting = Proxies(reactor).destination(url).connect(Carrier.DIRECT)
        begun = HeadStart(reactor, url, connecting)
        self.world.advance(1.0)
        return begun

    def test_head_start(self) -> None:
        """A connection that is there is used."""
        self.serve(self.relay, plain_response(503, "Busy."), older=False)
        begun = self.head_start()
        (open_already,) = self.host.connections
        self.refused(head_start=begun)
        self.assertEqual(self.requests[0].peer.port, open_already.local.port)
        self.assertEqual(len(self.host.connections), 1)

    def test_head_start_elsewhere(self) -> None:
        """After a redirection it is of no use."""
        path = f"/relay/server/{NAME}/client_sessions/"
        moved = plain_response(
            307, headers=(("Location", f"http://203.0.113.6{path}"),)
        )
        self.serve(self.relay, moved, moved, older=False)
        self.serve(self.other_relay, plain_response(503, "Busy."), older=False)
        error = self.refused(head_start=self.head_start())
        self.assertIn("203.0.113.6: Busy.", str(error))

    def test_head_start_cut(self) -> None:
        """A relay that had no more room for who asked nothing is asked anew."""
        connections: list[Recorder] = []

        class Impatient(Recorder):
            def connectionMade(self) -> None:
                connections.append(self)

            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                if self is connections[0]:
                    self.transport.abortConnection()
                else:
                    self.transport.write(SWITCHED + data.partition(END)[2])

        self.relay.reactor.listenTCP(80, Factory.forProtocol(Impatient))
        recorder = Recorder()
        endpoint = self.endpoint(head_start=self.head_start())
        self.world.run_until(connectProtocol(endpoint, recorder))
        first, second = connections
        self.assertIn(b"/client_tunnel/", bytes(first.data))
        self.assertIn(b"/client_tunnel/", bytes(second.data))
        self.assertEqual(recorder.calls, ["made"])

    def test_server_elsewhere(self) -> None:
        """A redirection is followed, whichever request was answered by it."""
        path = f"/relay/server/{NAME}/client_sessions/"
        moved = plain_response(
            307, headers=(("Location", f"http://203.0.113.6{path}"),)
        )
        self.serve(self.relay, moved, moved, older=False)
        self.serve(self.other_relay, plain_response(503, "Busy."), older=False)
        self.assertIn("203.0.113.6: Busy.", str(self.refused()))

    def test_connection_not_kept(self) -> None:
        """A proxy that closes after each answer costs a second connection."""
        closing = [("Connection", "close")]
        session = json_response(201, SESSION, tuple(closing))
        self.serve(self.relay, session, plain_response(503))
        self.refused()
        first, second = self.requests
        self.assertIsNot(first.connection, second.connection)

    def test_connected(self) -> None:
        """After 101 the application has the stream, early bytes included."""
        body = b'{"url": "/session/tunnel"}'
        created = b"HTTP/1.1 201 C\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        self.serve_raw(created, SWITCHED, None, b"late")
        recorder = Recorder()
        self.world.run_until(connectProtocol(self.endpoint(), recorder))
        recorder.transport.write(b"x")
        self.world.run_until(lambda: recorder.data == b"earlylate")

    def test_redirected(self) -> None:
        """A server that is on another relay is found there."""
        path = f"/relay/server/{NAME}/client_sessions/"
        location = (("Location", f"http://203.0.113.6/prefix{path}"),)
        self.serve(self.relay, plain_response(307, headers=location))
        self.serve(self.other_relay, plain_response(404, "Not here either."))
        error = self.refused()
        self.assertEqual(
            str(error), "relay http://203.0.113.6/prefix: Not here either."
        )
        self.assertEqual(self.requests[1].path, f"/prefix{path}")

    def test_redirected_without_end(self) -> None:
        """Relays that send a client round in circles are left."""
        path = f"/relay/server/{NAME}/client_sessions/"
        self.serve(
            self.relay, *[plain_response(307, headers=(("Location", path),))] * 4
        )
        self.assertEqual(self.refused().status, 307)
        self.assertEqual(len(self.requests), 4)

    def test_redirected_to_nowhere(self) -> None:
        """A redirection that is not to a relay is a refusal."""
        for location in ("", "http://h/login", "ftp://h/relay/server/x", "//["):
            self.setUp()
            self.serve(
                self.relay, plain_response(307, headers=(("Location", location),))
            )
            self.assertEqual(self.refused().status, 307)

    def test_not_a_relay(self) -> None:
        """Web servers and others that are no relay are told apart in words."""
        for reply in (
            json_response(201, {"x": 1}),
            json_response(201, []),
            json_response(201, {"url": "http://elsewhere"}),
            plain_response(201, "Welcome."),
        ):
            self.setUp()
            self.serve(self.relay, reply)
            self.assertIn("is not a relay", str(self.refused()))
        self.setUp()
        self.serve_raw(b"220 mail\r\n\r\n")
        error = self.refused()
        self.assertIn("is not a relay", str(error))
        self.setUp()
        self.patch(sys.modules[__name__], "OLDER", b"220 mail\r\n\r\n")
        self.serve_raw(b"")
        error = self.refused()
        self.assertIn("the answer is not HTTP", str(error))
        self.assertEqual(error.status, 0)

    def test_upgrade_stripped(self) -> None:
        """A proxy that strips the upgrade is named as the reason."""
        page = plain_response(200, "").__class__(200, b"", "text/html")
        self.serve(self.relay, json_response(201, SESSION), page)
        error = self.refused(method="upgrade")
        self.assertIn("a proxy on the way", str(error))

    def test_silent_relay(self) -> None:
        """A relay that does not answer is given up in time, in words."""
        self.serve_raw()
        connecting = connectProtocol(self.endpoint(timeout=3.0), Recorder())
        error = self.assertRaises(ConnectTimeout, self.world.run_until, connecting)
        self.assertEqual(
            str(error), "relay http://203.0.113.5 did not answer within 3 seconds"
        )
        self.world.advance(1.0)
        self.assertEqual(self.host.connections, [])

    def test_nobody_there(self) -> None:
        """A relay that does not run is a refused connection."""
        connecting = connectProtocol(self.endpoint(), Recorder())
        self.assertRaises(ConnectionRefusedError, self.world.run_until, connecting)

    def test_cancel(self) -> None:
        """An attempt that is not needed any more leaves nothing behind."""
        for moment in (0.0, 0.1, 1.0):
            self.setUp()
            self.serve_raw()
            connecting = connectProtocol(self.endpoint(), Recorder())
            self.world.advance(moment)
            connecting.cancel()
            self.failureResultOf(connecting, CancelledError, ConnectingCancelledError)
            self.world.advance(1.0)
            self.assertEqual(self.host.connections, [])
            self.assertEqual(list(self.host.reactor.getDelayedCalls()), [])

    def test_carrier(self) -> None:
        """The connection to the relay may be made by another endpoint."""
        self.serve(self.relay, plain_response(404, "No."))
        carrier = TCP4ClientEndpoint(self.host.reactor, "203.0.113.5", 80)
        error = self.refused(url="http://relay.invalid:3349", carrier=carrier)
        self.assertEqual(str(error), "relay http://relay.invalid:3349: No.")
        self.assertEqual(self.requests[0].header("host"), "relay.invalid:3349")

    def test_configuration(self) -> None:
        """A URL or method that cannot work is told at once."""
        for url, method in (("relay:3349", "upgrade"), ("http://h", "pigeon")):
            with self.assertRaises(ConfigurationError):
                RelayClientEndpoint(
                    self.host.reactor, url, PeerName(NAME.system), method=method
                )
