"""Squid and tinyproxy on this machine, between us and an echo."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ProcessDone, ProcessTerminated
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dwcloud.errors import ProxyAuthenticationFailed, ProxyRefused
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from tests.requirements import require

SQUID = """\
http_port 127.0.0.1:{port}
acl allowed_ports port {origin}
http_access deny CONNECT !allowed_ports
{rules}
pid_filename none
access_log none
cache_log {directory}/cache.log
cache deny all
coredump_dir {directory}
shutdown_lifetime 0 seconds
"""
ANYBODY = "http_access allow localhost"
BASIC = """\
auth_param basic program /usr/lib/squid/basic_ncsa_auth {directory}/passwords
auth_param basic children 1
auth_param basic realm proxy
acl known proxy_auth REQUIRED
http_access allow known"""
DIGEST = """\
auth_param digest program /usr/lib/squid/digest_file_auth -c {directory}/digests
auth_param digest children 1
auth_param digest realm proxy
acl known proxy_auth REQUIRED
http_access allow known"""
TINYPROXY = """\
Port {port}
Listen 127.0.0.1
Timeout 600
Allow 127.0.0.1
ConnectPort {origin}
{rules}
"""


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


class Program(ProcessProtocol):
    """A proxy's process."""

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self.output = b""

    def outReceived(self, data: bytes) -> None:
        self.output += data

    errReceived = outReceived

    def processEnded(self, reason: Any) -> None:
        reason.trap(ProcessDone, ProcessTerminated)
        self.ended.callback(None)


class RealProxyTests(TestCase):
    """CONNECT through proxies as Debian packages them."""

    timeout = 60

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        # Squid works as another user when it was started by root.
        self.directory = Path(directory.name)
        self.directory.chmod(0o777)
        port = self.reactor.listenTCP(0, Factory.forProtocol(Echo), 50, "127.0.0.1")
        self.addCleanup(port.stopListening)
        self.origin = port.getHost().port
        free = self.reactor.listenTCP(0, Factory(), 1, "127.0.0.1")
        self.port = free.getHost().port
        self.addCleanup(free.stopListening)
        self.freed = free.stopListening()

    async def start(
        self, name: str, template: str, rules: str, *arguments: str
    ) -> None:
        """Run a proxy and wait until it listens."""
        program = shutil.which(name) or shutil.which(name, path="/usr/sbin")
        require(program, f"{name} is not installed")
        assert program is not None
        await self.freed
        (self.directory / "passwords").write_text(
            "user:$apr1$salt$Xxd1irWT9ycqoYxGFn4cb.\n"
        )
        ha1 = hashlib.md5(b"user:proxy:password").hexdigest()
        (self.directory / "digests").write_text(f"user:proxy:{ha1}\n")
        configuration = self.directory / "configuration"
        places = {"port": self.port, "origin": self.origin, "directory": self.directory}
        text = template.format(rules=rules.format(**places), **places)
        configuration.write_text(text)
        process = Program()
        command = [program, *arguments, str(configuration)]
        spawned = self.reactor.spawnProcess(process, program, command, dict(os.environ))

        def end() -> Deferred[None]:
            if not process.ended.called:
                spawned.signalProcess("KILL")
            return process.ended

        self.addCleanup(end)
        while True:
            self.assertFalse(process.ended.called, process.output.decode())
            try:
                waiting = TCP4ClientEndpoint(self.reactor, "127.0.0.1", self.port)
                connection: Any = await connectProtocol(waiting, Protocol())
                connection.transport.abortConnection()
                return
            except ConnectError:
                await deferLater(self.reactor, 0.05)

    async def squid(self, rules: str) -> None:
        await self.start("squid", SQUID, rules, "-N", "-f")

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
        await self.start("tinyproxy", TINYPROXY, "BasicAuth user password", "-d", "-c")
        await self.assert_echo(self.proxies("password"))
        error = await self.refusal(self.proxies("wrong"))
        self.assertIsInstance(error, ProxyAuthenticationFailed)
