"""Streams in short requests, through proxies that let little else through."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import connectProtocol

from dwcloud.errors import RelayRefused
from dwcloud.net import message_server
from dwcloud.net.message_client import MessageTunnel
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tunnel_endpoints import TunnelEndpoint
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.proof import make_proof
from dwcloud.protocol.tunnelling.byte_stream import Message
from dwcloud.protocol.tunnelling.methods import METHOD_NAMES, PROBE_PATH, PROBE_TOKEN
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.testing.proxy import BadProxy, ClientSide, Defects
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
        self.assertEqual(methods - {"HEAD"}, {"CONNECT", "GET", "POST"})

    def test_proxy_that_cuts(self) -> None:
        """Connections that are cut every few seconds lose no byte."""
        self.full_pool()
        defects = Defects(connect_ports=(), strips_upgrade=True, idle_limit=4.0)
        recorder = self.exchange(
            proxies=self.proxies(defects), method="finite_messages"
        )
        for _ in range(5):
            self.world.advance(7.0)
            self.proxy.cut_all()
            recorder.transport.write(b"more")
        size = 100_000 + 20
        self.world.run_until(lambda: len(recorder.data) == size, 60.0)
        recorder.transport.abortConnection()

    def test_outdated_proofs(self) -> None:
        """A proxy whose nonces are soon used up lets every method through."""
        self.full_pool()
        defects = Defects(
            connect_ports=(),
            credentials=("user", "password"),
            digest=True,
            nonce_uses=3,
        )
        proxies = self.proxies(defects)
        for method in METHOD_NAMES:
            for _ in range(4):
                recorder = self.exchange(1000, proxies=proxies, method=method)
                recorder.transport.abortConnection()
                self.world.advance(1.0)
        self.assertGreater(self.proxy.stale, len(METHOD_NAMES))
        recorder = self.exchange(proxies=proxies, method="finite_messages")
        for _ in range(5):
            self.world.advance(35.0)
            recorder.transport.write(b"more")
        self.world.run_until(lambda: len(recorder.data) == 100_020, 60.0)
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

    def test_hold_no_number(self) -> None:
        """A request that is to wait for a time that is no number is refused."""
        path = f"{PROBE_PATH}/finite_messages?tunnel={'3' * 32}"
        headers = ((b"dwcloud-upgrade", PROBE_TOKEN.encode()),)
        message = Message(0, 0).encode().hex()
        self.assertEqual(self.ask("POST", f"{path}&n=0", headers).status, 200)
        for hold in ("nan", "inf", "-inf", "1e400", "long"):
            target = f"{path}&n=1&hold={hold}&m={message}"
            self.assertEqual(self.ask("GET", target).status, 400, hold)
        self.world.advance(100.0)

    def open_probe(self, number: int) -> int:
        """Open a tunnel that leads nowhere and forget it; returns the status."""
        path = f"{PROBE_PATH}/finite_messages?tunnel={number:032x}&n=0"
        headers = ((b"dwcloud-upgrade", PROBE_TOKEN.encode()),)
        return self.ask("POST", path, headers).status

    def opened(self, number: int, then: bool = False) -> None:
        """Open a server's idle connection, and ask on it if ``then``."""
        path = f"/relay/server/{self.name}/tunnel/finite_messages"
        target = f"{path}?tunnel={number:032x}&n="
        fields = ((b"dwcloud-upgrade", b"dwcloud-relay"),)
        answer = self.ask("POST", f"{target}0", fields)
        if answer.status == 401:
            proof = make_proof(
                answer.header("www-authenticate") or "",
                method="upgrade",
                name=self.name,
                channel_binding=b"",
                certificates=self.identity.certificates,
                sign=self.identity.sign,
            )
            fields += ((b"authorization", proof.encode().encode()),)
            answer = self.ask("POST", f"{target}0", fields)
        self.assertEqual(answer.status, 200)
        # Its answer may be lost: then the same comes again, and is answered alike.
        again = self.ask("POST", f"{target}0", fields)
        self.assertEqual(again, answer)
        if then:
            message = Message(0, 1 << 20).encode().hex()
            answer = self.ask("GET", f"{target}1&hold=20&m={message}")
            self.assertIn(b"KEEP_ALIVE", answer.body)

    def test_counts_when_used(self) -> None:
        """A connection that a server may know nothing of is not offered to clients."""
        self.opened(1)
        self.assertEqual(self.relay.pairing.idle_connections, 0)
        self.opened(2, then=True)
        self.assertEqual(self.relay.pairing.idle_connections, 1)
        self.world.advance(12.0)
        messages = self.relay._tunnels._messages
        self.assertEqual([*messages._tunnels], [f"{2:032x}"])

    def test_many_unused(self) -> None:
        """Those that nobody uses make room for each other, and for nobody else."""
        messages = self.relay._tunnels._messages
        self.patch(messages._unproven, "_capacity", 3)
        self.opened(0, then=True)
        for number in range(1, 7):
            self.opened(number)
        expected = {f"{number:032x}" for number in (0, 4, 5, 6)}
        self.assertEqual(set(messages._tunnels), expected)
        self.assertEqual(self.relay.pairing.idle_connections, 1)

    def test_first_answer_lost(self) -> None:
        """A proxy that cuts the first answer off hinders nobody, and leaves nothing.

        The request is repeated, and opens one tunnel alone.
        """
        pool = self.full_pool()
        proxies = self.proxies(Defects(connect_ports=()))
        cuts: list[str] = []
        passed_on = ClientSide.origin_said

        def cut(side: ClientSide, data: bytes) -> None:
            target = self.proxy.requests[-1][1]
            # Not that of a probe.
            opens = "n=0" in target and PROBE_PATH not in target
            if opens and len(cuts) < 2:
                cuts.append(target)
                side.cut()
            else:
                passed_on(side, data)

        self.patch(ClientSide, "origin_said", cut)
        recorder = self.exchange(proxies=proxies, method="finite_messages")
        self.assertEqual(len(cuts), 2)
        self.assertEqual(cuts[0], cuts[1])
        self.world.advance(10.0)
        self.assertEqual(len(self.relay._tunnels._messages._tunnels), 1)
        self.assertEqual(self.statistics()["now"]["tunnels"], 1)
        self.assertEqual(pool.idle_connections, 7)
        recorder.transport.abortConnection()

    def test_many_probes(self) -> None:
        """Probes take nobody's room but each other's, and are soon forgotten."""
        messages = self.relay._tunnels._messages
        self.patch(messages._probes, "_capacity", 3)
        self.patch(message_server, "_MOST_TUNNELS", 1)
        self.full_pool()
        for number in range(5):
            self.assertEqual(self.open_probe(number), 200)
        self.assertEqual(len(messages._tunnels), 3)
        recorder = self.exchange(100, method="finite_messages")
        self.assertEqual(self.open_probe(5), 200)
        self.world.advance(6.0)
        self.assertEqual(len(messages._tunnels), 1)
        self.assertEqual(set(messages._opened), set(messages._tunnels))
        recorder.transport.abortConnection()

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
