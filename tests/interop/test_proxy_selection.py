"""The prober in front of every proxy of the rack: something works, and soon."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.protocol.tunnelling.proxies import ProxySettings
from dwcloud.protocol.tunnelling.urls import ServiceURL
from tests.interop.proxy_programs import (
    ANYBODY,
    BASIC,
    HAProxy,
    Nginx,
    Privoxy,
    RealProxy,
    Squid,
    Tinyproxy,
)
from tests.interop.test_proxy_rack import RackTestCase
from tests.interop.tunnel_cases import first_byte
from tests.proxy_defects import ALL, DEFECTS, MESSAGES, NO_UPGRADE

COLD = 3.0
"""Seconds to the first byte where nothing is known of the network yet."""
WARM = 1.0
"""Seconds to the first byte where it is remembered what works."""
_PATIENCE = 10.0
"""For machines that have other things to do meanwhile."""


class SelectionTests(RackTestCase):
    """A method is found by itself, and remembered."""

    async def assert_found(
        self,
        name: str,
        expected: Iterable[str],
        url: ServiceURL,
        settings: ProxySettings,
    ) -> None:
        """A tunnel opens in time, and without any search the second time."""
        proxies = Proxies(self.reactor, settings)
        self.addCleanup(proxies.tunnels.stop)
        cold, cold_seconds = await first_byte(self.reactor, url, proxies)
        self.patch(proxies.tunnels, "_probe", None)
        warm, warm_seconds = await first_byte(self.reactor, url, proxies)
        told = f"{name}: {cold} {cold_seconds:.2f} s, {warm} {warm_seconds:.2f} s"
        self.assertIn(cold, expected, told)
        self.assertEqual(cold, warm, told)
        self.assertLess(cold_seconds, COLD * _PATIENCE, told)
        self.assertLess(warm_seconds, WARM * _PATIENCE, told)

    async def behind(
        self, proxy: RealProxy, expected: Iterable[str], user: str | None = None
    ) -> None:
        """The proxy is named, and does not CONNECT to the service's port."""
        await self.run_proxy(proxy)
        url = ServiceURL("http", "127.0.0.1", self.http)
        settings = self.proxies(user).settings
        await self.assert_found(type(proxy).__name__, expected, url, settings)

    async def in_front_of(self, proxy: RealProxy, expected: Iterable[str]) -> None:
        """The proxy stands in front of the service, and nobody knows."""
        await self.run_proxy(proxy)
        url = ServiceURL("http", "127.0.0.1", self.proxy_port)
        await self.assert_found(type(proxy).__name__, expected, url, ProxySettings())

    def rack(self, kind: type[RealProxy], *words: Any) -> RealProxy:
        return kind(self.reactor, self.proxy_port, self.https, *words)

    async def test_squid(self) -> None:
        """Squid as Debian ships it, its users being allowed."""
        await self.behind(self.rack(Squid), NO_UPGRADE)

    async def test_squid_strict(self) -> None:
        """Squid with a limit for bodies."""
        rules = "request_body_max_size 64 KB"
        await self.behind(self.rack(Squid, ANYBODY, rules), MESSAGES)

    async def test_squid_basic(self) -> None:
        """Squid that wants a password."""
        await self.behind(self.rack(Squid, BASIC), NO_UPGRADE, "user")

    async def test_tinyproxy(self) -> None:
        """tinyproxy."""
        await self.behind(self.rack(Tinyproxy), NO_UPGRADE)

    async def test_privoxy(self) -> None:
        """privoxy, which does CONNECT anywhere."""
        await self.behind(self.rack(Privoxy), ALL)

    async def test_haproxy(self) -> None:
        """HAProxy in front of the service."""
        proxy = HAProxy(self.reactor, self.proxy_port, self.http)
        await self.in_front_of(proxy, ALL)

    async def test_nginx(self) -> None:
        """nginx in front of the service."""
        proxy = Nginx(self.reactor, self.proxy_port, self.http)
        await self.in_front_of(proxy, MESSAGES)

    async def test_defects(self) -> None:
        """Our own proxy without CONNECT, defect by defect."""
        url = ServiceURL("http", "127.0.0.1", self.http)
        for name, (defects, works) in DEFECTS.items():
            self.bad_proxy(**{**defects, "connect_ports": ()})
            settings = self.proxies(None).settings
            await self.assert_found(name, works, url, settings)
