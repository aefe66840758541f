"""Squid and tinyproxy on this machine, between us and an echo."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from dwcloud.errors import ProxyAuthenticationFailed, ProxyRefused
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from tests.interop.proxy_programs import (
    ANYBODY,
    BASIC,
    DIGEST,
    RealProxy,
    Squid,
    Tinyproxy,
    free_port,
)
from tests.quiet_reactor import become_quiet


class Echo(Protocol):
    """Sends back what it gets."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Asker(Protocol):
    """Sends something and waits until it has come back."""

    def __init__(self) -> None:
        self.sent = os.urandom(300_000)
        self.received = b""
        self.done: Deferred[bool] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.sent)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if len(self.received) == len(self.sent):
            self.done.callback(self.received == self.sent)


class RealProxyTests(TestCase):
    """CONNECT through proxies as Debian packages them."""

    timeout = 150

    async def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.addCleanup(become_quiet, reactor)
        port = self.reactor.listenTCP(0, Factory.forProtocol(Echo), 50, "127.0.0.1")
        self.addCleanup(port.stopListening)
        self.origin = port.getHost().port
        self.port = await free_port(reactor)

    async def start(self, proxy: RealProxy) -> None:
        """Run a proxy and wait until it listens."""
        self.addCleanup(proxy.stop)
        await proxy.start()

    async def squid(self, access: str) -> None:
        await self.start(Squid(self.reactor, self.port, self.origin, access))

    def proxies(self, password: str | None = None) -> Proxies:
        user = None if password is None else "user"
        proxy = Proxy("127.0.0.1", self.port, False, user, password or "")
        return Proxies(self.reactor, ProxySettings.of(proxy))

    async def assert_echo(self, proxies: Proxies) -> None:
        """Real bytes come back unchanged."""
        endpoint = proxies.endpoint("127.0.0.1", self.origin)
        assert endpoint is not None
        asker: Any = await connectProtocol(endpoint, Asker())
        self.assertTrue(await asker.done)
        asker.transport.abortConnection()

    async def refusal(self, proxies: Proxies, port: int | None = None) -> Any:
        endpoint = proxies.endpoint("127.0.0.1", port or self.origin)
        assert endpoint is not None
        connecting = connectProtocol(endpoint, Asker())
        return await self.assertFailure(connecting, ProxyRefused)

    async def test_squid(self) -> None:
        """Squid connects to the ports that it allows and to no others."""
        await self.squid(ANYBODY)
        await self.assert_echo(self.proxies())
        error = await self.refusal(self.proxies(), 25)
        self.assertEqual(error.status, 403)

    async def test_squid_basic(self) -> None:
        """Squid's Basic lets the right password through."""
        await self.squid(BASIC)
        proxies = self.proxies("password")
        await self.assert_echo(proxies)
        await self.assert_echo(proxies)
        error = await self.refusal(self.proxies("wrong"))
        self.assertIsInstance(error, ProxyAuthenticationFailed)
        error = await self.refusal(self.proxies())
        self.assertIsInstance(error, ProxyAuthenticationFailed)

    async def test_squid_digest(self) -> None:
        """Squid's Digest lets the right password through."""
        await self.squid(DIGEST)
        proxies = self.proxies("password")
        await self.assert_echo(proxies)
        await self.assert_echo(proxies)
        error = await self.refusal(self.proxies("wrong"))
        self.assertIn("rejects the password", str(error))

    async def test_tinyproxy(self) -> None:
        """tinyproxy connects, with Basic as well."""
        proxy = Tinyproxy(
            self.reactor, self.port, self.origin, "BasicAuth user password"
        )
        await self.start(proxy)
        await self.assert_echo(self.proxies("password"))
        error = await self.refusal(self.proxies("wrong"))
        self.assertIsInstance(error, ProxyAuthenticationFailed)
