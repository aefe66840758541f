"""Streams in short requests, through proxies that let little else through."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import connectProtocol

from dwcloud.errors import RelayRefused
from dwcloud.net.message_client import MessageTunnel
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tunnel_endpoints import TunnelEndpoint
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.testing.proxy import BadProxy, Defects
from tests.unit.net.stream_world import Recorder, pattern, test_identity
from tests.unit.relay.relay_world import RelayTestCase

WORST = Defects(
    connect_ports=(443,),
    strips_upgrade=True,
    buffers_requests=True,
    buffers_answers=True,
    refuses_chunked=True,
    body_limit=20_000,
)


class MessageTunnelTests(RelayTestCase):
    """Clients of a real relay, in the simulated world."""

    def exchange(self, size: int = 100_000, **options: Any) -> Recorder:
        """Send bytes to an echo through the relay and get them back."""
        recorder = Recorder()
        endpoint = self.client(**options)
        self.world.run_until(connectProtocol(endpoint, recorder), 60.0)
        recorder.transport.write(pattern(size))
        self.world.run_until(lambda: len(recorder.data) == size, 120.0)
        self.assertEqual(bytes(recorder.data), pattern(size))
        return recorder

    def proxies(self, defects: Defects) -> Proxies:
        """A proxy of the client's."""
        host = self.relay_host
        self.proxy = BadProxy(host.reactor, defects)
        port = host.reactor.listenTCP(3128, self.proxy)
        self.addCleanup(port.stopListening)
        user, password = defects.credentials or (None, "")
        proxy = Proxy(host.address, 3128, False, user, password)
        return Proxies(self.client_host.reactor, ProxySettings.of(proxy))

    def test_without_proxy(self) -> None:
        """Bytes go both ways, and both ends learn of the end."""
        self.full_pool()
        recorder = self.exchange(method="finite_messages")
        self.assertEqual(self.statistics()["now"]["tunnels"], 1)
        recorder.transport.loseConnection()
        self.world.run_until(lambda: recorder.lost is not None, 30.0)
        self.world.run_until(lambda: self.statistics()["now"]["tunnels"] == 0, 30.0)

    def test_broken_off(self) -> None:
        """A tunnel that is broken off at one end breaks at the other."""
        self.full_pool()
        recorder = self.exchange(100, method="finite_messages")
        recorder.transport.abortConnection()
        self.world.run_until(lambda: self.statistics()["now"]["tunnels"] == 0, 30.0)

    def test_stopped_relay(self) -> None:
        """A relay that stops leaves no timer of its tunnels behind."""
        self.full_pool()
        self.exchange(100, method="finite_messages")
        self.world.run_until(self.relay.stopService(), 30.0)
        self.world.advance(1.0)
        self.assertEqual(self.relay_host.reactor.getDelayedCalls(), [])

    def test_worst_proxy(self) -> None:
        """A proxy with nearly all defects is passed by itself."""
        self.full_pool()
        recorder = self.exchange(proxies=self.proxies(WORST))
        recorder.transport.loseConnection()
        self.world.run_until(lambda: recorder.lost is not None, 30.0)
        methods = {method for method, _ in self.proxy.requests}
        self.assertEqual(methods, {"CONNECT", "GET", "POST"})

    def test_proxy_that_cuts(self) -> None:
        """Connections that are cut every few seconds lose no byte."""
        self.full_pool()
        defects = Defects(connect_ports=(), strips_upgrade=True, idle_limit=4.0)
        recorder = self.exchange(proxies=self.proxies(defects))
        for _ in range(5):
            self.world.advance(7.0)
            self.proxy.cut_all()
            recorder.transport.write(b"more")
        size = 100_000 + 20
        self.world.run_until(lambda: len(recorder.data) == size, 60.0)
        recorder.transport.abortConnection()

    def test_refused(self) -> None:
        """What the relay itself refuses is told, whatever the method."""
        unknown = test_identity(1).name
        endpoint = self.client(PeerName(unknown.system, unknown.server))
        connecting = connectProtocol(endpoint, Recorder())
        self.assertRaises(RelayRefused, self.world.run_until, connecting)

    def test_server_behind_the_worst_proxy(self) -> None:
        """A server proves itself and waits for clients through short requests."""
        self.server_proxies = Proxies(
            self.server_host.reactor, self.proxies(WORST).settings
        )
        pool = self.pool()
        pool._proxies = self.server_proxies
        self.world.run_until(lambda: pool.idle_connections >= 7, 60.0)
        self.exchange(30_000).transport.abortConnection()
        self.world.advance(5.0)
        self.assertGreaterEqual(pool.idle_connections, 7)

    def test_strangers(self) -> None:
        """What is no tunnel's request is refused."""
        path = f"/relay/server/{self.name}/tunnel/finite_messages"
        self.assertEqual(self.ask("GET", path).status, 400)
        query = f"?tunnel={'0' * 32}&n=5"
        self.assertEqual(self.ask("GET", path + query).status, 410)
        self.assertEqual(self.ask("POST", path + query).status, 410)

    def test_not_opened(self) -> None:
        """A tunnel without a proof of identity gets 401."""
        endpoint = TunnelEndpoint(
            self.client_host.reactor,
            ServiceURL.parse(self.url),
            f"/relay/server/{self.name}/tunnel",
            "dwcloud-relay",
            method="finite_messages",
        )
        error: Any = self.failureResultOf(self.settled(endpoint.open())).value
        self.assertEqual(error.status, 401)

    def settled(self, deferred: Any) -> Any:
        """Let the world run until a Deferred has fired."""
        self.world.run_until(lambda: deferred.called, 30.0)
        self.assertFalse(isinstance(deferred.result, MessageTunnel))
        return deferred
