"""Choosing a method: by a probe, from memory, again after a failure."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
)

from dwcloud.errors import ProxyAuthenticationFailed, ProxyRefused, ProxyUnreachable
from dwcloud.net.local_network import local_network
from dwcloud.net.method_memory import (
    MethodMemory,
    NetworkName,
    default_memory_file,
    name_network,
)
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tunnel_endpoints import probe_methods
from dwcloud.net.tunnel_selector import TunnelSelector
from dwcloud.protocol.tunnelling.methods import METHOD_NAMES, WEBSOCKET
from dwcloud.protocol.tunnelling.prober import Candidate, Carrier, ProbeResult
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.protocol.tunnelling.websocket import why_unavailable
from dwcloud.testing import PORT_RESTRICTED
from dwcloud.testing.proxy import BadProxy, Defects
from tests.unit.net.stream_world import Recorder, pattern
from tests.unit.relay.relay_world import RelayTestCase

WORST = Defects(
    connect_ports=(), strips_upgrade=True, buffers_requests=True, buffers_answers=True
)
SWALLOWING = Defects(connect_ports=(), swallows_upgraded=True)


class SelectorTestCase(RelayTestCase):
    """A test with a relay, and a proxy in front of the client."""

    proxy_port: Any = None

    def setUp(self) -> None:
        super().setUp()
        self.network = "home"
        self.memory = MethodMemory(network=lambda: self.network)
        self.full_pool()

    def start_proxy(self, defects: Defects) -> None:
        """Start the proxy, or replace it by another one."""
        self.stop_proxy()
        self.proxy = BadProxy(self.relay_host.reactor, defects)
        self.proxy_port = self.relay_host.reactor.listenTCP(3128, self.proxy)

    def stop_proxy(self) -> None:
        port, self.proxy_port = self.proxy_port, None
        if port is not None:
            port.stopListening()
            self.proxy.cut_all()
            self.world.advance(0.1)

    def stop(self) -> None:
        self.stop_proxy()
        super().stop()
        # What was begun for the client has come to its end, too.
        self.assertEqual(list(self.client_host.reactor.getDelayedCalls()), [])

    def proxies(self, method: str = "auto", **options: Any) -> Proxies:
        """The client's."""
        reactor = self.client_host.reactor
        selector = TunnelSelector(
            reactor, self.memory, method, random_bytes=self.world.random_bytes
        )
        proxy = Proxy(self.relay_host.address, 3128, **options)
        return Proxies(reactor, ProxySettings.of(proxy), selector)

    def exchange(self, proxies: Proxies) -> float:
        """Echo some bytes through the relay; how long the first took."""
        began = self.world.seconds()
        recorder = Recorder()
        endpoint = self.client(proxies=proxies)
        self.world.run_until(connectProtocol(endpoint, recorder), 20.0)
        recorder.transport.write(pattern(50_000))
        self.world.run_until(lambda: bool(recorder.data), 20.0)
        first = self.world.seconds() - began
        self.world.run_until(lambda: len(recorder.data) == 50_000, 60.0)
        self.assertEqual(bytes(recorder.data), pattern(50_000))
        recorder.transport.abortConnection()
        self.world.advance(1.0)
        return first

    def selected(self) -> Candidate | None:
        """What is remembered of the relay."""
        key = f"{self.url} through {self.relay_host.address}:3128"
        return self.memory.selected(key, now=self.world.seconds())


class SelectorTests(SelectorTestCase):
    """Clients behind a proxy."""

    def test_cold_and_remembered(self) -> None:
        """The first byte comes within 3 s of a cold probe, within 1 s afterwards."""
        for defects, method in (
            (WORST, "finite_messages"),
            (SWALLOWING, "post"),
            (Defects(connect_ports=(), strips_upgrade=True), "post"),
            (
                Defects(connect_ports=(), holds_answers=True, strips_upgrade=True),
                "get_post",
            ),
        ):
            self.memory = MethodMemory(network=lambda: self.network)
            self.start_proxy(defects)
            proxies = self.proxies()
            self.assertLess(self.exchange(proxies), 3.0)
            self.assertEqual(self.selected(), Candidate(method, Carrier.WEB))
            self.proxy.requests.clear()
            self.assertLess(self.exchange(proxies), 1.0)
            probes = [t for _, t in self.proxy.requests if "tunnel_probe" in t]
            self.assertEqual(probes, [])

    def test_by_connect(self) -> None:
        """Where CONNECT is allowed, that with upgrade inside is it."""
        self.start_proxy(Defects())
        self.exchange(self.proxies())
        self.assertEqual(self.selected(), Candidate("upgrade", Carrier.CONNECT))

    def test_failure_demotes(self) -> None:
        """What worked and does no more is replaced at once."""
        self.start_proxy(Defects())
        proxies = self.proxies()
        self.exchange(proxies)
        self.start_proxy(WORST)
        self.assertLess(self.exchange(proxies), 3.0)
        self.assertEqual(self.selected(), Candidate("finite_messages", Carrier.WEB))

    def test_silent_failure_demotes(self) -> None:
        """So is what seems to open and passes no byte."""
        self.start_proxy(Defects(connect_ports=()))
        proxies = self.proxies()
        self.exchange(proxies)
        self.assertEqual(self.selected(), Candidate("upgrade", Carrier.WEB))
        self.start_proxy(SWALLOWING)
        self.assertLess(self.exchange(proxies), 6.0)
        self.assertEqual(self.selected(), Candidate("post", Carrier.WEB))

    def test_improved(self) -> None:
        """What is cheaper is found in the background when it begins to work."""
        self.start_proxy(WORST)
        proxies = self.proxies()
        self.exchange(proxies)
        self.start_proxy(Defects())
        self.world.advance(601.0)
        self.exchange(proxies)
        self.world.advance(5.0)
        self.assertEqual(self.selected(), Candidate("upgrade", Carrier.CONNECT))

    def test_improved_by_another_process(self) -> None:
        """Programs that end soon find what is cheaper, too, and search as seldom."""
        self.start_proxy(WORST)
        self.exchange(self.proxies())
        self.world.advance(601.0)
        for searches in (True, False):
            self.proxy.requests.clear()
            self.exchange(self.proxies())
            self.world.advance(15.0)
            probes = [t for _, t in self.proxy.requests if "tunnel_probe" in t]
            self.assertEqual(bool(probes), searches)
        self.start_proxy(Defects())
        self.world.advance(601.0)
        self.exchange(self.proxies())
        self.world.advance(5.0)
        self.assertEqual(self.selected(), Candidate("upgrade", Carrier.CONNECT))

    def test_proxy_that_answers_itself(self) -> None:
        """A remembered method that a proxy answers by 403 now is demoted."""
        self.start_proxy(WORST)
        self.exchange(self.proxies())
        self.assertEqual(self.selected(), Candidate("finite_messages", Carrier.WEB))
        self.start_proxy(Defects(refuses_passing_on=True))
        self.exchange(self.proxies())
        self.assertEqual(self.selected(), Candidate("upgrade", Carrier.CONNECT))

    def test_by_network(self) -> None:
        """Another network knows nothing of what works in this one."""
        self.start_proxy(WORST)
        self.exchange(self.proxies())
        self.network = "office"
        self.assertIsNone(self.selected())
        self.network = "home"
        self.assertIsNotNone(self.selected())

    def test_forced(self) -> None:
        """Only the method that was named is used."""
        self.start_proxy(Defects())
        self.exchange(self.proxies("get_post"))
        self.assertIsNone(self.selected())
        self.assertRaises(ValueError, self.proxies, "pigeon")
        self.start_proxy(WORST)
        endpoint = self.client(proxies=self.proxies("post"))
        connecting = connectProtocol(endpoint, Recorder())
        self.assertRaises(ConnectError, self.world.run_until, connecting, 30.0)

    def test_wrong_password(self) -> None:
        """That is told at once, and not tried by every method."""
        self.start_proxy(Defects(credentials=("user", "password")))
        proxies = self.proxies(username="user", password="wrong")
        endpoint = self.client(proxies=proxies)
        error = self.assertRaises(
            ProxyAuthenticationFailed,
            self.world.run_until,
            connectProtocol(endpoint, Recorder()),
        )
        self.assertIn("rejects the password", str(error))
        self.assertLessEqual(len(self.proxy.requests), 4)

    def test_password_for_web_requests(self) -> None:
        """Requests that are passed on prove themselves as CONNECT does."""
        for digest in (False, True):
            self.start_proxy(
                Defects(
                    connect_ports=(), credentials=("user", "password"), digest=digest
                )
            )
            self.memory = MethodMemory(network=lambda: self.network)
            self.exchange(self.proxies(username="user", password="password"))
            self.assertEqual(self.selected(), Candidate("upgrade", Carrier.WEB))

    def test_no_proxy_there(self) -> None:
        """Without the proxy no method is of use, which is told soon."""
        connecting = connectProtocol(self.client(proxies=self.proxies()), Recorder())
        began = self.world.seconds()
        self.assertRaises(ProxyUnreachable, self.world.run_until, connecting)
        self.assertLess(self.world.seconds() - began, 3.0)

    def test_shared(self) -> None:
        """Several connections at once wait for one probe."""
        self.start_proxy(WORST)
        proxies = self.proxies()
        recorders = [Recorder() for _ in range(5)]
        for recorder in recorders:
            connectProtocol(self.client(proxies=proxies), recorder)
        self.world.run_until(lambda: all(r.calls for r in recorders), 30.0)
        probes = [
            t
            for m, t in self.proxy.requests
            if "tunnel_probe/finite_messages" in t and "n=0" in t
        ]
        self.assertEqual(len(probes), 1)
        for recorder in recorders:
            recorder.transport.abortConnection()

    def test_cancelled(self) -> None:
        """A connection that nobody wants any more leaves nothing behind."""
        self.start_proxy(WORST)
        for moment in (0.0, 0.1, 0.3, 0.4):
            connecting = connectProtocol(
                self.client(proxies=self.proxies()), Recorder()
            )
            self.world.advance(moment)
            connecting.cancel()
            self.failureResultOf(connecting, CancelledError, ConnectingCancelledError)

    def test_stopped(self) -> None:
        """A program that stops takes its probes with it."""
        self.start_proxy(WORST)
        proxies = self.proxies()
        connecting = connectProtocol(self.client(proxies=proxies), Recorder())
        self.world.advance(0.3)
        proxies.tunnels.stop()
        self.failureResultOf(connecting, CancelledError)


class SurveyTests(SelectorTestCase):
    """Trying everything, for people."""

    def survey(self, proxies: Proxies | None = None) -> dict[str, Any]:
        asking = probe_methods(
            self.client_host.reactor, ServiceURL.parse(self.url), proxies=proxies
        )
        reports: Any = self.world.run_until(asking, 30.0)
        return {f"{r.method} {r.carrier}": r for r in reports}

    def test_direct(self) -> None:
        """Without a proxy everything works."""
        reports = self.survey()
        self.assertEqual(len(reports), len(METHOD_NAMES))
        for name, report in reports.items():
            if name.startswith(WEBSOCKET) and why_unavailable():
                continue
            self.assertEqual(report.result, ProbeResult.WORKS, report)
            self.assertGreater(report.seconds, 0.0)

    def test_worst(self) -> None:
        """What does not work is told with its reason, in time."""
        self.start_proxy(WORST)
        began = self.world.seconds()
        proxies = self.proxies()
        reports = self.survey(proxies)
        self.assertLess(self.world.seconds() - began, 12.5)
        works = [n for n, r in reports.items() if r.result is ProbeResult.WORKS]
        self.assertEqual(works, ["finite_messages web requests"])
        self.assertIn("port 443 alone", reports["upgrade CONNECT"].reason)
        self.assertIn("removed the request", reports["upgrade web requests"].reason)
        self.assertIn("8 seconds", reports["post web requests"].reason)
        self.assertEqual(proxies.reports(self.url), tuple(reports.values()))

    def test_refused(self) -> None:
        """A proxy that refuses everything is a result like any other."""
        self.start_proxy(Defects(connect_ports=(), credentials=("a", "b")))
        for report in self.survey(self.proxies()).values():
            self.assertEqual(report.result, ProbeResult.FAILED)
        self.assertTrue(issubclass(ProxyAuthenticationFailed, ProxyRefused))


class MemoryTests(RelayTestCase):
    """What is kept in a file."""

    def setUp(self) -> None:
        super().setUp()
        self.file = Path(self.mktemp()) / "state" / "tunnelling.json"

    def memory(self) -> MethodMemory:
        return MethodMemory(self.file, lambda: "home")

    def test_kept(self) -> None:
        """The next process knows what worked, for a month."""
        candidate = Candidate("post", Carrier.WEB)
        self.memory().select("http://h", candidate, now=1000.0)
        self.assertEqual(self.memory().selected("http://h", now=2000.0), candidate)
        self.assertIsNone(self.memory().selected("http://h", now=4e6))
        self.assertIsNone(self.memory().selected("http://i", now=2000.0))
        self.assertEqual(
            [p.name for p in self.file.parent.iterdir()], ["tunnelling.json"]
        )

    def test_relays(self) -> None:
        """The next process knows which relays a mediator named last."""
        urls = tuple(map(ServiceURL.parse, ("http://r:3349", "https://s/prefix")))
        self.assertIsNone(self.memory().relays("m:3345"))
        for relays in (urls, ()):
            self.memory().note_relays("m:3345", relays)
            self.assertEqual(self.memory().relays("m:3345"), relays)
        self.assertIsNone(self.memory().relays("n:3345"))

    def test_same_relays(self) -> None:
        """What is known already is not written again."""
        memory = self.memory()
        memory.note_relays("m:3345", ())
        self.file.unlink()
        memory.note_relays("m:3345", ())
        self.assertFalse(self.file.exists())

    def test_demoted(self) -> None:
        """What was demoted is not known to the next process either."""
        candidate = Candidate("post")
        memory = self.memory()
        memory.select("http://h", candidate, now=0.0)
        memory.demote("http://h", Candidate("upgrade"))
        self.assertEqual(memory.selected("http://h", now=0.0), candidate)
        memory.demote("http://h", candidate)
        self.assertEqual(memory.demoted("http://h"), candidate)
        self.assertIsNone(self.memory().selected("http://h", now=0.0))

    def cut(self, lasted: float, now: float) -> bool:
        """Note a cut, each time as another process."""
        return self.memory().note_cut("http://h", lasted=lasted, now=now)

    def is_cut(self, now: float) -> bool:
        return self.memory().is_cut("http://h", now=now)

    def test_cuts(self) -> None:
        """Two streams cut after each other count, for an hour, in every process."""
        self.assertFalse(self.cut(60.0, 1000.0))
        self.assertFalse(self.is_cut(1000.0))
        self.assertTrue(self.cut(60.0, 1060.0))
        self.assertTrue(self.is_cut(1061.0))
        self.assertFalse(self.memory().is_cut("http://i", now=1061.0))
        elsewhere = MethodMemory(self.file, lambda: "abroad")
        self.assertFalse(elsewhere.is_cut("http://h", now=1061.0))
        self.assertTrue(self.is_cut(1060.0 + 3599.0))
        self.assertFalse(self.is_cut(1060.0 + 3600.0))
        # Those of long ago tell nothing about the next.
        self.assertFalse(self.cut(60.0, 1060.0 + 3700.0))
        self.assertFalse(self.is_cut(1060.0 + 3700.0))

    def test_cuts_at_once(self) -> None:
        """What is lost together is lost once, as when the network breaks down."""
        self.assertFalse(self.cut(60.0, 1000.0))
        self.assertFalse(self.cut(50.0, 1009.0))
        self.assertFalse(self.is_cut(1010.0))
        self.assertTrue(self.cut(50.0, 1011.0))

    def test_long_life(self) -> None:
        """A stream that lasted for minutes takes the suspicion away."""
        self.assertFalse(self.cut(60.0, 1000.0))
        self.assertFalse(self.cut(120.0, 1120.0))
        self.assertFalse(self.cut(60.0, 1180.0))
        self.assertFalse(self.is_cut(1180.0))

    def written(self, at: str, destination: str = "http://h") -> str:
        """A file with one entry of the time ``at``."""
        return (
            f'{{"version": 1, "methods": [{{"network": "home", "at": {at}, '
            f'"destination": "{destination}", "method": "post", '
            '"carrier": "direct"}]}'
        )

    def test_too_long(self) -> None:
        """Of a file with too much in it the newest part is taken."""
        self.file.parent.mkdir(parents=True)
        value = json.loads(self.written("0"))
        [entry] = value["methods"]
        value["methods"] = [{**entry, "destination": f"http://{n}"} for n in range(300)]
        self.file.write_text(json.dumps(value))
        memory = self.memory()
        self.assertIsNone(memory.selected("http://0", now=0.0))
        self.assertEqual(memory.selected("http://299", now=0.0), Candidate("post"))

    def test_no_home(self) -> None:
        """Who has no home directory keeps nothing."""

        def no_home() -> Path:
            raise RuntimeError("Could not determine home directory.")

        self.patch(Path, "home", no_home)
        self.patch(os, "environ", {})
        self.assertIsNone(default_memory_file())

    def test_unusable(self) -> None:
        """A file with anything in it is done without, and replaced."""
        self.file.parent.mkdir(parents=True)
        for text in (
            "",
            "x",
            "[]",
            '{"version": 2}',
            '{"version": 1, "methods": [{}]}',
            json.dumps({"version": 1, "methods": [{"method": "pigeon"}]}),
            "[" * 100_000,
            *(self.written(at) for at in ("NaN", "Infinity", "1e400", "9" * 400)),
            self.written("1e12"),
            *(
                f'{{"version": 1, "methods": [], "cuts": {cuts}}}'
                for cuts in (
                    "1",
                    "[1]",
                    "[{}]",
                    '[{"network": "home", "destination": "http://h", '
                    '"count": 2, "at": NaN}]',
                    '[{"network": "home", "destination": "http://h", '
                    '"count": 1e400, "at": 0}]',
                )
            ),
            *(
                f'{{"version": 1, "methods": [], "relays": {relays}}}'
                for relays in (
                    "1",
                    "[{}]",
                    '[{"mediator": "m", "urls": 1}]',
                    '[{"mediator": "m", "urls": ["ftp://r"]}]',
                    '[{"mediator": "m", "urls": [null]}]',
                    '[{"mediator": "m", "urls": [1]}]',
                )
            ),
        ):
            self.file.write_text(text)
            self.assertIsNone(self.memory().selected("http://h", now=0.0))
            self.memory().select("http://h", Candidate("post"), now=0.0)
            self.assertIsNotNone(self.memory().selected("http://h", now=0.0))
        self.flushLoggedErrors()

    def test_unwritable(self) -> None:
        """Where nothing can be written, the process remembers all the same."""
        self.file = Path(self.mktemp())
        self.file.write_text("a file where a directory is wanted")
        memory = MethodMemory(self.file / "x", lambda: "home")
        memory.select("http://h", Candidate("post"), now=0.0)
        self.assertEqual(memory.selected("http://h", now=0.0), Candidate("post"))

    def test_network_is_asked_for_once_a_second(self) -> None:
        """Many tunnels do not list the addresses each; a change is noticed soon."""
        lan = self.world.internet().nat("198.51.100.1", PORT_RESTRICTED)
        host = lan.host("192.168.1.10")
        name = NetworkName(host.reactor, self.world.seconds)
        before = name()
        host.change_addresses(host.interfaces[0], ["192.168.1.12"])
        self.world.advance(0.9)
        self.assertEqual(name(), before)
        self.world.advance(0.2)
        self.assertEqual(name(), name_network(local_network(host.reactor)))
        self.assertNotEqual(name(), before)

    def test_network(self) -> None:
        """A network is known by this machine's addresses there and its router."""
        lan = self.world.internet().nat("198.51.100.1", PORT_RESTRICTED)
        host = lan.host("192.168.1.10")
        name = name_network(local_network(host.reactor))
        self.assertIn("192.168.1.10/", name)
        self.assertIn("router ", name)
        self.assertNotIn("127.0.0.1", name)
        other = lan.host("192.168.1.11")
        self.assertNotEqual(name_network(local_network(other.reactor)), name)
        file = default_memory_file()
        self.assertTrue(file is None or file.name == "tunnelling.json")
