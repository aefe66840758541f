"""Every tunnelling method through every proxy of the rack.

For each proxy a table says which method carries bytes; of a method that cannot the
failure must be told in time, and one that can must bring a file back unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase

from dwcloud.net.http_client import TLSEndpoint
from dwcloud.net.identity import SystemIdentity
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tls import ServerTLS, UnverifiedTLS
from dwcloud.protocol.tunnelling.methods import METHOD_NAMES
from dwcloud.protocol.tunnelling.prober import Carrier
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.testing.proxy import BadProxy, Defects
from tests.interop.proxy_programs import (
    ANYBODY,
    BASIC,
    DIGEST,
    HAProxy,
    Nginx,
    Privoxy,
    RealProxy,
    Squid,
    Tinyproxy,
    free_port,
)
from tests.interop.tunnel_cases import (
    PATIENCE,
    Connect,
    EchoSite,
    Outcome,
    try_method,
    try_methods,
)
from tests.proxy_defects import (
    ALL,
    DEFECTS,
    MESSAGES,
    NO_UPGRADE,
    NOTHING,
)
from tests.quiet_reactor import become_quiet

FAILING_LIMIT = 4.0
"""Seconds in which a method that does not work is found not to."""


class RackTestCase(TestCase):
    """An echo behind HTTP, with and without TLS, and a proxy to it."""

    timeout = 240

    async def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        site = EchoSite(reactor)
        self.addCleanup(self.settle, site)
        self.http = self.listen(site)
        tls = ServerTLS(SystemIdentity.generate().issue_server())
        self.https = self.listen(TLSMemoryBIOFactory(tls, False, site, reactor))
        self.proxy_port = await free_port(reactor)

    async def settle(self, site: EchoSite) -> None:
        """Let connections and their timers come to their end."""
        site.stop()
        await become_quiet(self.reactor)

    def listen(self, factory: Any) -> int:
        """Listen on a loopback port until the test ends."""
        listening = self.reactor.listenTCP(0, factory, 50, "127.0.0.1")
        self.addCleanup(listening.stopListening)
        port: int = listening.getHost().port
        return port

    async def run_proxy(self, proxy: RealProxy) -> None:
        self.addCleanup(proxy.stop)
        await proxy.start()

    def bad_proxy(self, **defects: Any) -> BadProxy:
        proxy = BadProxy(self.reactor, Defects(**defects))
        self.proxy_port = self.listen(proxy)
        self.addCleanup(proxy.cut_all)
        return proxy

    # Ways through a proxy

    def proxies(self, user: str | None) -> Proxies:
        proxy = Proxy("127.0.0.1", self.proxy_port, False, user, "password")
        return Proxies(self.reactor, ProxySettings.of(proxy))

    def inside_connect(
        self, user: str | None = None, *, secure: bool = True
    ) -> Connect:
        """TLS to the service's TLS port, inside CONNECT; or plain HTTP."""
        proxies = self.proxies(user)
        if not secure:
            url = ServiceURL("http", "127.0.0.1", self.http)
            return lambda: proxies.destination(url).connect(Carrier.CONNECT)
        through = proxies.endpoint("127.0.0.1", self.https)
        assert through is not None
        tls = TLSEndpoint(self.reactor, UnverifiedTLS("127.0.0.1"), through)
        service = ServiceURL("https", "127.0.0.1", self.https)
        destination = proxies.destination(service, carrier=tls)
        return lambda: destination.connect(Carrier.DIRECT)

    def passed_on(self, user: str | None = None) -> Connect:
        """Plain requests that the proxy passes on."""
        proxies = self.proxies(user)
        url = ServiceURL("http", "127.0.0.1", self.http)
        return lambda: proxies.destination(url).connect(Carrier.WEB)

    def in_front(self) -> Connect:
        """Plain requests to what stands in front of the service."""
        url = ServiceURL("http", "127.0.0.1", self.proxy_port)
        proxies = Proxies(self.reactor)
        return lambda: proxies.destination(url).connect(Carrier.DIRECT)

    # The table

    async def assert_table(
        self,
        connects: dict[str, Connect],
        works: Mapping[str, Iterable[str]],
        failing_limit: float = FAILING_LIMIT,
        **options: Any,
    ) -> dict[str, Outcome]:
        """Try all methods by each carrier.

        :param works: which must carry bytes; the others must be found not to.
        :param failing_limit: seconds for the others.
        """

        def limit(carrier: str, method: str) -> float:
            return PATIENCE if method in works[carrier] else failing_limit

        outcomes = await try_methods(self.reactor, connects, limit, **options)
        working = {
            carrier: {m for m in METHOD_NAMES if outcomes[f"{carrier} {m}"].works}
            for carrier in connects
        }
        told = "\n".join(f"{name}: {outcome}" for name, outcome in outcomes.items())
        self.assertEqual(working, {c: set(w) for c, w in works.items()}, told)
        for name, outcome in outcomes.items():
            self.assertTrue(outcome.works or outcome.reason, name)
        return outcomes


class RealProxyTests(RackTestCase):
    """Programs that networks really run."""

    def both(self, user: str | None = None) -> dict[str, Connect]:
        return {"connect": self.inside_connect(user), "plain": self.passed_on(user)}

    async def test_no_proxy(self) -> None:
        """With nothing between, everything works."""
        self.proxy_port = self.http
        await self.assert_table({"front": self.in_front()}, {"front": ALL})

    async def test_squid(self) -> None:
        """Squid as Debian ships it, its users being allowed."""
        await self.run_proxy(Squid(self.reactor, self.proxy_port, self.https))
        await self.assert_table(self.both(), {"connect": ALL, "plain": NO_UPGRADE})

    async def test_squid_strict(self) -> None:
        """Squid with a limit for bodies; it removes Upgrade by itself."""
        rules = "request_body_max_size 64 KB"
        await self.run_proxy(
            Squid(self.reactor, self.proxy_port, self.https, ANYBODY, rules)
        )
        outcomes = await self.assert_table(
            self.both(), {"connect": ALL, "plain": MESSAGES}
        )
        self.assertIn("413", outcomes["plain post"].reason)

    async def test_squid_basic(self) -> None:
        """Squid that wants a password."""
        await self.run_proxy(Squid(self.reactor, self.proxy_port, self.https, BASIC))
        await self.assert_table(
            self.both("user"), {"connect": ALL, "plain": NO_UPGRADE}
        )

    async def test_squid_digest(self) -> None:
        """Squid with Digest, whose nonces are good for 50 requests or fewer."""
        for rules in ("", "auth_param digest nonce_max_count 3"):
            self.proxy_port = await free_port(self.reactor)
            await self.run_proxy(
                Squid(self.reactor, self.proxy_port, self.https, DIGEST, rules)
            )
            await self.assert_table(
                self.both("user"), {"connect": ALL, "plain": NO_UPGRADE}
            )

    async def test_squid_digest_for_long(self) -> None:
        """Short requests use up one nonce after the other, and lose nothing."""
        rules = "auth_param digest nonce_max_count 5"
        await self.run_proxy(
            Squid(self.reactor, self.proxy_port, self.https, DIGEST, rules)
        )
        outcome = await try_method(
            self.reactor,
            "finite_messages",
            self.passed_on("user"),
            size=3_000_000,
            limit=2 * PATIENCE,
            pauses=(0.5, 0.5),
        )
        self.assertTrue(outcome.works, outcome)

    async def test_tinyproxy(self) -> None:
        """tinyproxy, which holds an answer until the request's body has ended."""
        await self.run_proxy(Tinyproxy(self.reactor, self.proxy_port, self.https))
        await self.assert_table(
            self.both(), {"connect": ALL, "plain": NO_UPGRADE - {"post"}}
        )

    async def test_privoxy(self) -> None:
        """privoxy, which answers 101 and then passes nothing: the echo tells."""
        await self.run_proxy(Privoxy(self.reactor, self.proxy_port, self.https))
        outcomes = await self.assert_table(
            self.both(), {"connect": ALL, "plain": NO_UPGRADE}, PATIENCE
        )
        self.assertIn("no byte comes back", outcomes["plain upgrade"].reason)

    async def test_haproxy(self) -> None:
        """HAProxy in front of the service."""
        await self.run_proxy(HAProxy(self.reactor, self.proxy_port, self.http))
        await self.assert_table({"front": self.in_front()}, {"front": ALL})

    async def test_nginx(self) -> None:
        """nginx in front of the service."""
        await self.run_proxy(Nginx(self.reactor, self.proxy_port, self.http))
        await self.assert_table({"front": self.in_front()}, {"front": MESSAGES})


class BadProxyTests(RackTestCase):
    """Our own proxy, defect by defect."""

    async def test_defects(self) -> None:
        """What each defect leaves of the methods, on requests that are passed on."""
        connects = {}
        for name, (defects, _) in DEFECTS.items():
            self.bad_proxy(**defects)
            connects[name] = self.passed_on()
        expected = {name: works for name, (_, works) in DEFECTS.items()}
        await self.assert_table(connects, expected)

    async def test_connect(self) -> None:
        """What proxies do to CONNECT; inside TLS they see nothing of the method."""
        connects = {}
        cases: dict[str, dict[str, Any]] = {
            "any port": {},
            "no CONNECT": {"connect_ports": ()},
            "one port, TLS inside": {
                "connect_ports": (self.https,),
                "connect_tls_only": True,
                "strips_upgrade": True,
                "buffers_requests": True,
            },
        }
        for name, defects in cases.items():
            self.bad_proxy(**defects)
            connects[name] = self.inside_connect()
        self.bad_proxy(connect_tls_only=True)
        connects["no TLS inside"] = self.inside_connect(secure=False)
        expected = {
            "any port": ALL,
            "no CONNECT": NOTHING,
            "one port, TLS inside": ALL,
            "no TLS inside": NOTHING,
        }
        outcomes = await self.assert_table(connects, expected)
        self.assertIn("ProxyRefused", outcomes["no CONNECT upgrade"].reason)

    async def test_passwords(self) -> None:
        """Requests that are passed on prove themselves as CONNECT does."""
        connects = {}
        for name, digest in (("basic", False), ("digest", True)):
            self.bad_proxy(
                connect_ports=(), credentials=("user", "password"), digest=digest
            )
            connects[name] = self.passed_on("user")
        self.bad_proxy(connect_ports=(), credentials=("user", "another"))
        connects["wrong"] = self.passed_on("user")
        expected = {"basic": ALL, "digest": ALL, "wrong": NOTHING}
        outcomes = await self.assert_table(connects, expected)
        self.assertIn("rejects the password", outcomes["wrong upgrade"].reason)

    async def test_cuts(self) -> None:
        """Short requests survive a proxy that cuts what is silent, or what is old."""
        connects = {}
        for name, defects in (
            ("idle", {"idle_limit": 3.0}),
            ("life", {"life_limit": 3.0}),
        ):
            self.bad_proxy(**defects)
            connects[name] = self.passed_on()
        expected = {"idle": MESSAGES, "life": MESSAGES}
        outcomes = await self.assert_table(
            connects, expected, 20.0, size=10_000, pauses=(5.0, 0.0)
        )
        self.assertEqual(outcomes["idle upgrade"].stage, "carrying")
        self.assertEqual(outcomes["life websocket"].stage, "carrying")
