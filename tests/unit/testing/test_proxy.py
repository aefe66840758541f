"""The proxy with chosen defects, in the simulated network."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.protocol.tunnelling.methods import METHOD_NAMES
from dwcloud.protocol.tunnelling.prober import Carrier
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.testing import World
from dwcloud.testing.proxy import BadProxy, Defects
from tests.interop.tunnel_cases import Connect, EchoSite, Outcome, try_methods
from tests.proxy_defects import ALL, DEFECTS, MESSAGES

ORIGIN = ServiceURL.parse("http://203.0.113.5")


class DefectTests(SynchronousTestCase):
    """All tunnelling methods, defect by defect, as the rack has them in reality."""

    def setUp(self) -> None:
        self.world = World(seed=1)
        self.internet = self.world.internet()
        origin = self.internet.host(ORIGIN.host, name="origin")
        origin.reactor.listenTCP(80, EchoSite(origin.reactor))
        self.client = self.internet.host("203.0.113.20", name="client")

    def through(self, carrier: Carrier = Carrier.WEB, **defects: Any) -> Connect:
        """Start a proxy on a host of its own; return the way through it."""
        address = f"203.0.113.{100 + len(self.world.hosts)}"
        host = self.internet.host(address)
        host.reactor.listenTCP(3128, BadProxy(host.reactor, Defects(**defects)))
        settings = ProxySettings.of(Proxy(address, 3128))
        proxies = Proxies(self.client.reactor, settings)
        return lambda: proxies.destination(ORIGIN).connect(carrier)

    def outcomes(
        self, connects: dict[str, Connect], **options: Any
    ) -> dict[str, Outcome]:
        trying = try_methods(self.client.reactor, connects, **options)
        result: Any = self.world.run_until(Deferred.fromCoroutine(trying), 9000.0)
        return dict(result)

    def assert_table(
        self,
        connects: dict[str, Connect],
        works: dict[str, frozenset[str]],
        **more: Any,
    ) -> dict[str, Outcome]:
        outcomes = self.outcomes(connects, **more)
        found = {
            name: {m for m in METHOD_NAMES if outcomes[f"{name} {m}"].works}
            for name in connects
        }
        told = "\n".join(f"{name}: {outcome}" for name, outcome in outcomes.items())
        self.assertEqual(found, {n: set(w) for n, w in works.items()}, told)
        return outcomes

    def test_defects(self) -> None:
        """The simulated network says what the real one says."""
        self.assert_table(
            {name: self.through(**defects) for name, (defects, _) in DEFECTS.items()},
            {name: works for name, (_, works) in DEFECTS.items()},
        )

    def test_connect(self) -> None:
        """Inside CONNECT a proxy sees nothing of the method, or cuts all of it."""
        self.assert_table(
            {
                "any": self.through(Carrier.CONNECT, strips_upgrade=True),
                "TLS only": self.through(Carrier.CONNECT, connect_tls_only=True),
                "none": self.through(Carrier.CONNECT, connect_ports=()),
            },
            {"any": ALL, "TLS only": frozenset(), "none": frozenset()},
        )

    def test_cuts(self) -> None:
        """What is silent, or old, is cut; short requests go on."""
        outcomes = self.assert_table(
            {
                "idle": self.through(idle_limit=3.0),
                "life": self.through(life_limit=3.0),
            },
            {"idle": MESSAGES, "life": MESSAGES},
            size=10_000,
            limit=lambda carrier, method: 30.0,
            pauses=(4.0, 0.0),
        )
        for name in ("idle upgrade", "life websocket", "idle get_post"):
            self.assertEqual(outcomes[name].stage, "carrying", name)

    def test_hours_of_silence(self) -> None:
        """All but the raw bytes of upgrade keep themselves alive in a proxy of 50 s.

        What is inside ``upgrade`` does that: the mediator's and the relay's keep-alive.
        """
        outcomes = self.outcomes(
            {"idle": self.through(idle_limit=50.0)},
            size=10_000,
            limit=lambda carrier, method: 8000.0,
            pauses=(3600.0,),
        )
        silent = {"idle upgrade"}
        for name, outcome in outcomes.items():
            self.assertEqual(outcome.works, name not in silent, f"{name}: {outcome}")
