"""Each tunnelling method through a real relay, in the simulated world."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any

from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    connectProtocol,
)
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory

from dwcloud.errors import RelayRefused, TunnelRefused
from dwcloud.net.http_client import TLSEndpoint
from dwcloud.net.tls import PeerVerifier, ServerTLS
from dwcloud.net.tunnel_endpoints import TunnelEndpoint
from dwcloud.protocol.relaying.paths import CLIENT_TOKEN, client_sessions_path
from dwcloud.protocol.tunnelling.methods import (
    FINITE_MESSAGES,
    GET_POST,
    METHOD_NAMES,
    POST,
    PROBE_PATH,
    PROBE_TOKEN,
    UPGRADE,
    WEBSOCKET,
    Opening,
)
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.protocol.tunnelling.websocket import WebSocketMethod, why_unavailable
from dwcloud.testing.proxy import Defects
from tests.requirements import require
from tests.unit.net.method_world import Digester, Endless, MethodTestCase, holds
from tests.unit.net.stream_world import HalfRecorder, Recorder, pattern


class _Each:
    """What each method has to do."""

    method = ""

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        if self.method == WEBSOCKET:
            require(not why_unavailable(), why_unavailable())

    def test_exchange(self: Any) -> None:
        """Bytes go both ways, and the relay learns of the end."""
        self.full_pool()
        recorder = self.exchange(self.method)
        self.assertEqual(self.tunnels(), 1)
        recorder.transport.loseConnection()
        self.world.run_until(lambda: recorder.lost is not None, 30.0)
        self.assertIsInstance(recorder.lost, ConnectionDone)
        self.world.run_until(lambda: self.tunnels() == 0, 30.0)

    def test_far_end_closes(self: Any) -> None:
        """What the far end wrote before it closed arrives whole, and in good order."""

        class Giver(Protocol):
            transport: Any

            def connectionMade(self) -> None:
                self.transport.write(pattern(500_000))
                self.transport.loseConnection()

        self.full_pool(Factory.forProtocol(Giver))
        recorder = Recorder()
        self.world.run_until(
            connectProtocol(self.client(method=self.method), recorder), 60.0
        )
        self.world.run_until(lambda: recorder.lost is not None, 60.0)
        self.assertEqual(bytes(recorder.data), pattern(500_000))
        self.assertIsInstance(recorder.lost, ConnectionDone)

    def test_half_close(self: Any) -> None:
        """The end of one direction leaves the other one open."""
        self.full_pool(Factory.forProtocol(Digester))
        recorder = HalfRecorder()
        self.world.run_until(
            connectProtocol(self.client(method=self.method), recorder), 60.0
        )
        recorder.transport.write(pattern(200_000))
        recorder.transport.loseWriteConnection()
        self.world.run_until(lambda: "read ended" in recorder.calls, 60.0)
        self.assertEqual(
            bytes(recorder.data), hashlib.sha256(pattern(200_000)).digest()
        )
        recorder.transport.loseConnection()
        self.world.run_until(lambda: self.tunnels() == 0, 30.0)

    def test_broken_off(self: Any) -> None:
        """A tunnel that is broken off at one end breaks at the other."""
        lost: list[Any] = []

        class Listener(Protocol):
            def connectionLost(self, reason: Any = None) -> None:
                lost.append(reason.value)

        self.full_pool(Factory.forProtocol(Listener))
        recorder = Recorder()
        self.world.run_until(
            connectProtocol(self.client(method=self.method), recorder), 60.0
        )
        recorder.transport.abortConnection()
        self.world.run_until(lambda: bool(lost), 60.0)
        self.assertIsInstance(lost[0], ConnectionLost)

    def test_slow_reader(self: Any) -> None:
        """A reader that pauses slows the far end down and loses nothing."""
        size = 4_000_000

        class Giver(Protocol):
            transport: Any

            def connectionMade(self) -> None:
                self.transport.write(pattern(size))

        self.full_pool(Factory.forProtocol(Giver))
        recorder = Recorder()
        self.world.run_until(
            connectProtocol(self.client(method=self.method), recorder), 60.0
        )
        recorder.transport.pauseProducing()
        self.world.advance(5.0)
        self.assertLess(len(recorder.data), size)
        came = len(recorder.data)
        self.world.advance(150.0)
        self.assertEqual(len(recorder.data), came)
        recorder.transport.resumeProducing()
        self.world.run_until(lambda: len(recorder.data) == size, 120.0)
        self.assertEqual(bytes(recorder.data), pattern(size))
        recorder.transport.abortConnection()

    def test_slow_reader_stops_the_writer(self: Any) -> None:
        """What nobody reads is not taken from who writes it, in either direction."""
        servers: list[Recorder] = []

        def server() -> Recorder:
            servers.append(Recorder())
            return servers[-1]

        pool = self.pool(Factory.forProtocol(server))
        pool._method = self.method
        self.world.run_until(lambda: pool.idle_connections >= 7, 60.0)
        for upwards in (True, False):
            client = Recorder()
            connecting = connectProtocol(self.client(method=self.method), client)
            self.world.run_until(connecting, 60.0)
            self.world.run_until(lambda: bool(servers), 60.0)
            reader, writer = (servers.pop(), client)[:: 1 if upwards else -1]
            reader.transport.pauseProducing()
            source = Endless(writer.transport)
            self.world.advance(20.0)
            taken = source.written
            self.assertLess(taken, 8_000_000)
            self.world.advance(60.0)
            self.assertEqual(source.written, taken)
            source.stopProducing()
            reader.transport.resumeProducing()
            self.world.run_until(partial(holds, reader, taken), 120.0)
            writer.transport.unregisterProducer()
            writer.transport.abortConnection()
            self.world.advance(5.0)

    def test_stays_alive(self: Any) -> None:
        """A proxy that cuts what is silent for 30 s does not cut an idle stream."""
        if self.method == UPGRADE:
            return  # its stream is raw: who is inside keeps it alive
        self.full_pool()
        defects = Defects(connect_ports=(), idle_limit=30.0)
        proxies = self.proxies(self.client_host, defects)
        recorder = self.exchange(self.method, 1000, proxies=proxies)
        self.world.advance(300.0)
        self.assertIsNone(recorder.lost)
        recorder.transport.write(b"more")
        self.world.run_until(lambda: len(recorder.data) == 1004, 30.0)
        recorder.transport.abortConnection()

    def test_inside_connect(self: Any) -> None:
        """It works inside CONNECT as well."""
        self.full_pool()
        proxies = self.proxies(self.client_host)
        recorder = self.exchange(self.method, 1000, proxies=proxies)
        self.assertEqual({method for method, _ in self.proxy.requests}, {"CONNECT"})
        recorder.transport.abortConnection()

    def test_tls(self: Any) -> None:
        """It works over https as well, with a proof bound to the connection."""
        reactor = self.relay_host.reactor
        factory = TLSMemoryBIOFactory(
            ServerTLS(self.identity), False, self.relay.http, reactor
        )
        port = reactor.listenTCP(443, factory)
        self.addCleanup(port.stopListening)
        pool = self.pool()
        pool._method = self.method
        pool._carrier = self.tls(self.server_host)
        self.world.run_until(lambda: pool.idle_connections >= 7, 60.0)
        self.assertGreater(self.relay.switchboard._statistics.proofs_accepted, 0)
        recorder = self.exchange(self.method, carrier=self.tls(self.client_host))
        recorder.transport.loseConnection()
        self.world.run_until(lambda: recorder.lost is not None, 30.0)

    def tls(self: Any, host: Any) -> TLSEndpoint:
        return TLSEndpoint(
            host.reactor,
            PeerVerifier(self.name),
            TCP4ClientEndpoint(host.reactor, self.relay_host.address, 443),
        )

    def test_server(self: Any) -> None:
        """A server proves itself and waits for clients by it."""
        pool = self.pool()
        pool._method = self.method
        self.world.run_until(lambda: pool.idle_connections >= 7, 60.0)
        self.exchange(self.method).transport.loseConnection()
        self.world.run_until(lambda: self.tunnels() == 0, 30.0)

    def test_refused(self: Any) -> None:
        """What the relay refuses is told at once."""
        endpoint = self.client(method=self.method)
        error = self.assertRaises(
            RelayRefused, self.world.run_until, connectProtocol(endpoint, Recorder())
        )
        self.assertEqual(error.status, 404)

    def test_probe(self: Any) -> None:
        """A tunnel that leads nowhere opens, and leaves nothing behind."""
        recorder = Recorder()
        endpoint = self.probe(self.method)
        self.world.run_until(connectProtocol(endpoint, recorder), 30.0)
        self.world.run_until(lambda: recorder.lost is not None, 30.0)


class UpgradeTests(_Each, MethodTestCase):
    method = UPGRADE


class WebSocketTests(_Each, MethodTestCase):
    method = WEBSOCKET

    def test_slow_reader_that_pings(self) -> None:
        """Who pings and does not read costs the relay a few buffers, no more."""
        self.full_pool()
        session = self.ask("POST", client_sessions_path(self.name))
        opening = Opening(json.loads(session.body)["url"], CLIENT_TOKEN)
        (head,) = WebSocketMethod().requests(opening)
        connection, recorder = self.http(), Recorder()
        answer = self.ask(head.method, head.target, head.headers, connection)
        self.assertEqual(answer.status, 101)
        connection.upgrade_to(recorder)
        recorder.transport.pauseProducing()
        # Masked with zeros, which is allowed.
        ping = b"\x89\xfd" + bytes(4) + bytes(125)
        for _ in range(200):
            recorder.transport.write(ping * 500)
            self.world.advance(0.1)
        recorder.transport.resumeProducing()
        self.world.advance(5.0)
        self.assertLess(len(recorder.data), 2_000_000)
        # It still lives, and answers.
        self.assertIsNone(recorder.lost)
        recorder.data.clear()
        recorder.transport.write(ping)
        self.world.run_until(lambda: len(recorder.data) == 127)
        recorder.transport.abortConnection()


class PostTests(_Each, MethodTestCase):
    method = POST


class GetPostTests(_Each, MethodTestCase):
    method = GET_POST

    def test_second_request_missing(self) -> None:
        """Half a tunnel is given up in time."""
        connection = self.http()
        target = f"{PROBE_PATH}/get_post?tunnel={'1' * 32}"
        headers = ((b"dwcloud-upgrade", PROBE_TOKEN.encode()), (b"dwcloud-echo", b"9"))
        answering = connection.request("GET", target, headers)
        answering.addErrback(lambda _: None)
        half_open = self.relay._tunnels._half_open
        self.world.run_until(lambda: len(half_open) == 1)
        self.assertEqual(len(self.relay._tunnels._halves), 1)
        other = self.ask("GET", target, headers)
        self.assertEqual(other.status, 409)
        self.world.run_until(lambda: not half_open, 30.0)
        self.assertEqual(self.relay._tunnels._halves, {})
        answer = self.ask("POST", f"{target}&up=1")
        self.assertEqual(answer.status, 410)

    def test_many_halves(self) -> None:
        """Who opens halves alone drives out the oldest, and an honest client opens."""
        waiting = self.relay._tunnels._half_open
        self.patch(waiting, "_capacity", 3)
        headers = ((b"dwcloud-upgrade", PROBE_TOKEN.encode()), (b"dwcloud-echo", b"9"))
        for number in range(5):
            target = f"{PROBE_PATH}/get_post?tunnel={number:032x}"
            answering = self.http().request("GET", target, headers)
            answering.addErrback(lambda _: None)
            self.world.advance(1.0)
        self.assertEqual((len(waiting), waiting.evicted), (3, 2))
        self.assertEqual(len(self.relay._tunnels._halves), 3)
        recorder = Recorder()
        self.world.run_until(connectProtocol(self.probe(GET_POST), recorder), 30.0)
        recorder.transport.abortConnection()

    def test_second_of_one_id(self) -> None:
        """A second GET of one tunnel is refused before it costs a server anything."""
        self.full_pool()
        session = self.ask("POST", client_sessions_path(self.name))
        target = f"{json.loads(session.body)['url']}/get_post?tunnel={'1' * 32}"
        headers = ((b"dwcloud-upgrade", CLIENT_TOKEN.encode()), (b"dwcloud-echo", b"9"))
        answering = self.http().request("GET", target, headers)
        answering.addErrback(lambda _: None)
        self.world.advance(2.0)
        idle = self.relay.pairing.idle_connections
        self.assertEqual(self.ask("GET", target, headers).status, 409)
        self.assertEqual(self.relay.pairing.idle_connections, idle)


class FiniteMessagesTests(_Each, MethodTestCase):
    method = FINITE_MESSAGES


EXPECTED: list[tuple[str, Defects, set[str]]] = [
    ("nothing wrong", Defects(connect_ports=()), set(METHOD_NAMES)),
    (
        "strips Upgrade",
        Defects(connect_ports=(), strips_upgrade=True),
        {POST, GET_POST, FINITE_MESSAGES},
    ),
    (
        "101 and nothing passes",
        Defects(connect_ports=(), swallows_upgraded=True),
        {POST, GET_POST, FINITE_MESSAGES},
    ),
    (
        "buffers requests",
        Defects(connect_ports=(), buffers_requests=True),
        {UPGRADE, WEBSOCKET, FINITE_MESSAGES},
    ),
    (
        "buffers answers",
        Defects(connect_ports=(), buffers_answers=True),
        {UPGRADE, WEBSOCKET, FINITE_MESSAGES},
    ),
    (
        "holds answers",
        Defects(connect_ports=(), holds_answers=True, strips_upgrade=True),
        {GET_POST, FINITE_MESSAGES},
    ),
    (
        "refuses chunks",
        Defects(connect_ports=(), refuses_chunked=True, strips_upgrade=True),
        {POST, GET_POST, FINITE_MESSAGES},
    ),
    (
        "limits bodies",
        Defects(connect_ports=(), body_limit=20_000, strips_upgrade=True),
        {FINITE_MESSAGES},
    ),
    (
        "HTTP/1.0",
        Defects(connect_ports=(), speaks_http_1_0=True, strips_upgrade=True),
        {FINITE_MESSAGES},
    ),
]


class BadProxyTests(MethodTestCase):
    """Which method gets through which defect, and how the others fail."""

    def test_table(self) -> None:
        """Methods that cannot work are refused within the limit, the others work."""
        names = [n for n in METHOD_NAMES if n != WEBSOCKET or not why_unavailable()]
        self.full_pool()
        for what, defects, expected in EXPECTED:
            for method in names:
                with self.subTest(what=what, method=method):
                    proxies = self.proxies(self.client_host, defects)
                    endpoint = TunnelEndpoint(
                        self.client_host.reactor,
                        ServiceURL.parse(self.url),
                        PROBE_PATH,
                        PROBE_TOKEN,
                        method=method,
                        proxies=proxies,
                        timeout=8.0,
                    )
                    began = self.world.seconds()
                    try:
                        self.world.run_until(
                            connectProtocol(endpoint, Recorder()), 30.0
                        )
                        works = True
                    except Exception as e:
                        works = False
                        self.assertTrue(str(e), e)
                    self.assertEqual(works, method in expected, (what, method))
                    self.assertLess(self.world.seconds() - began, 10.0)
                    self.stop_proxy()
                    # What was begun comes to its end.
                    self.world.advance(15.0)


class RefusalTests(MethodTestCase):
    """What is no tunnel's request."""

    def test_echo_size(self) -> None:
        """Nobody gets a megabyte sent back."""
        upgrade = (
            (b"connection", b"Upgrade"),
            (b"upgrade", PROBE_TOKEN.encode()),
        )
        for size in (b"0", b"2000", b"x", b"-1", b"100000000000"):
            headers = (*upgrade, (b"dwcloud-echo", size))
            self.assertEqual(
                self.ask("GET", f"{PROBE_PATH}/upgrade", headers).status, 400
            )
        headers = ((b"dwcloud-echo", b"16"),)
        self.assertEqual(self.ask("GET", f"{PROBE_PATH}/upgrade", headers).status, 426)

    def test_many_silent(self) -> None:
        """Tunnels that send nothing make room for others, the oldest first.

        A client that sends its bytes at once gets through in the midst of them.
        """
        waiting = self.relay._tunnels._waiting
        self.patch(waiting, "_capacity", 3)
        headers = (
            (b"connection", b"Upgrade"),
            (b"upgrade", PROBE_TOKEN.encode()),
            (b"dwcloud-echo", b"16"),
        )
        for _ in range(5):
            answer = self.ask("GET", f"{PROBE_PATH}/upgrade", headers)
            self.assertEqual(answer.status, 101)
        self.assertEqual((len(waiting), waiting.evicted), (3, 2))
        honest = self.world.run_until(self.probe(UPGRADE).open(), 30.0)
        assert honest is not None
        self.assertEqual((honest.method, honest.answer.status), (UPGRADE, 101))
        self.assertEqual((len(waiting), waiting.evicted), (2, 3))
        honest.disconnect()
        self.world.advance(11.0)
        self.assertEqual((len(waiting), waiting.timed_out), (0, 2))

    def hold_open(self, number: int) -> Recorder:
        """Probe by ``post``, and do not end the tunnel after the echo."""
        recorder = Recorder()
        endpoint = TCP4ClientEndpoint(
            self.client_host.reactor, self.relay_host.address, 3349
        )
        self.world.run_until(connectProtocol(endpoint, recorder))
        recorder.transport.write(
            f"POST {PROBE_PATH}/post?tunnel={number:032x} HTTP/1.1\r\n"
            f"Host: relay\r\nDWCloud-Upgrade: {PROBE_TOKEN}\r\n"
            "DWCloud-Echo: 4\r\nContent-Length: 100000\r\n\r\n"
            "\0\4echo".encode("ascii")
        )
        self.world.run_until(lambda: b"echo" in recorder.data)
        return recorder

    def test_probe_that_stays(self) -> None:
        """A probe whose client does not end it, but keeps it alive, is broken off."""
        recorder = self.hold_open(1)
        for _ in range(4):
            self.world.advance(1.0)
            recorder.transport.write(b"\0\0")
        self.assertIsNone(recorder.lost)
        self.world.advance(2.0)
        self.assertIsNotNone(recorder.lost)
        self.assertEqual(self.relay._tunnels._parting.timed_out, 1)

    def test_many_probes_that_stay(self) -> None:
        """Such probes make room for others, the oldest first."""
        parting = self.relay._tunnels._parting
        self.patch(parting, "_capacity", 3)
        recorders = [self.hold_open(number) for number in range(5)]
        self.world.advance(1.0)
        self.assertEqual(
            [r.lost is not None for r in recorders], [True, True, False, False, False]
        )
        recorder = Recorder()
        self.world.run_until(connectProtocol(self.probe(POST), recorder), 30.0)
        recorder.transport.abortConnection()
        self.world.advance(6.0)
        self.assertEqual(len(parting), 0)
        self.assertTrue(all(r.lost is not None for r in recorders))

    def test_probe_without_echo(self) -> None:
        """A probe without an echo, whose time nothing would limit, is refused."""
        headers = (
            (b"connection", b"Upgrade"),
            (b"upgrade", PROBE_TOKEN.encode()),
            (b"dwcloud-upgrade", PROBE_TOKEN.encode()),
        )
        for method, name in (("GET", UPGRADE), ("GET", GET_POST), ("POST", POST)):
            target = f"{PROBE_PATH}/{name}?tunnel={'4' * 32}"
            answer = self.ask(method, target, headers)
            self.assertEqual(answer.status, 400, name)
            self.assertIn("DWCloud-Echo", answer.sentence)

    def test_no_id(self) -> None:
        """Tunnels have an id that nobody can guess."""
        for method in (WEBSOCKET, GET_POST):
            path = f"{PROBE_PATH}/{method}"
            self.assertEqual(self.ask("GET", path).status, 400)
            self.assertEqual(self.ask("GET", f"{path}?tunnel=1").status, 400)
        self.assertEqual(self.ask("PUT", f"{PROBE_PATH}/post").status, 405)

    def test_not_a_websocket(self) -> None:
        """A plain GET is no WebSocket."""
        require(not why_unavailable(), why_unavailable())
        path = f"{PROBE_PATH}/websocket?tunnel={'2' * 32}"
        self.assertEqual(self.ask("GET", path).status, 426)

    def test_unknown_method(self) -> None:
        """A method that nobody knows is told."""
        self.assertRaises(
            ValueError,
            TunnelEndpoint,
            self.client_host.reactor,
            ServiceURL.parse(self.url),
            "/x",
            "y",
            method="pigeon",
        )
        self.assertTrue(issubclass(TunnelRefused, Exception))
