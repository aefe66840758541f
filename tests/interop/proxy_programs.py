"""Proxies of others, run as programs of this machine on loopback ports."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ProcessDone, ProcessTerminated
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.internet.task import deferLater

from tests.requirements import require

__all__ = [
    "ANYBODY",
    "BASIC",
    "DIGEST",
    "HAProxy",
    "Nginx",
    "Privoxy",
    "RealProxy",
    "Squid",
    "Tinyproxy",
    "free_port",
]

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


async def free_port(reactor: Any) -> int:
    """Return a loopback port that nobody listens on."""
    listening = reactor.listenTCP(0, Factory(), 1, "127.0.0.1")
    port: int = listening.getHost().port
    await listening.stopListening()
    return port


class _Process(ProcessProtocol):
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


class RealProxy:
    """A proxy that is started for one test.

    :cvar program: the command.
    :cvar package: of Debian.
    :cvar options: in front of the configuration file.
    :cvar template: of the configuration.
    :param port: where it listens.
    :param origin: the port behind it: the only one for CONNECT, or that of the server
        that it stands in front of.
    :param rules: further lines of the configuration.
    """

    program: ClassVar[str]
    package: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    template: ClassVar[str]

    def __init__(self, reactor: Any, port: int, origin: int, rules: str = "") -> None:
        self.reactor = reactor
        self.port = port
        self.origin = origin
        self.rules = rules
        self._process = _Process()
        self._spawned: Any = None

    async def start(self) -> None:
        """Run it and wait until it listens."""
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
        program = shutil.which(self.program, path=path)
        require(program, f"{self.program} (package {self.package}) is not installed")
        # Several of these work as another user when they were started by root.
        self._directory = tempfile.TemporaryDirectory()
        directory = Path(self._directory.name)
        directory.chmod(0o777)
        (directory / "passwords").write_text("user:$apr1$salt$Xxd1irWT9ycqoYxGFn4cb.\n")
        ha1 = hashlib.md5(b"user:proxy:password").hexdigest()
        (directory / "digests").write_text(f"user:proxy:{ha1}\n")
        places = {"port": self.port, "origin": self.origin, "directory": directory}
        configuration = directory / "configuration"
        rules = self.rules.format(**places)
        configuration.write_text(self.template.format(rules=rules, **places))
        self._spawned = self.reactor.spawnProcess(
            self._process,
            program,
            [program, *self.options, str(configuration)],
            dict(os.environ),
            str(directory),
        )
        await self._until_listening()

    async def _until_listening(self) -> None:
        while True:
            assert not self._process.ended.called, self._process.output.decode()
            try:
                waiting = TCP4ClientEndpoint(self.reactor, "127.0.0.1", self.port)
                connection: Any = await connectProtocol(waiting, Protocol())
                connection.transport.abortConnection()
                return
            except ConnectError:
                await deferLater(self.reactor, 0.05)

    def stop(self) -> Deferred[None]:
        """End it."""
        if self._spawned is None:
            return succeed(None)
        if not self._process.ended.called:
            self._spawned.signalProcess("KILL")
        return self._process.ended.addCallback(lambda _: self._directory.cleanup())


class Squid(RealProxy):
    """Squid as Debian configures it, but for who may use it and what is kept.

    :param access: who may use it.
    """

    program = "squid"
    package = "squid"
    options = ("-N", "-f")
    template = """\
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

    def __init__(
        self,
        reactor: Any,
        port: int,
        origin: int,
        access: str = ANYBODY,
        rules: str = "",
    ) -> None:
        super().__init__(reactor, port, origin, f"{access}\n{rules}")


class Tinyproxy(RealProxy):
    """tinyproxy, which connects to one port alone."""

    program = "tinyproxy"
    package = "tinyproxy"
    options = ("-d", "-c")
    template = """\
Port {port}
Listen 127.0.0.1
Timeout 600
Allow 127.0.0.1
ConnectPort {origin}
{rules}
"""


class Privoxy(RealProxy):
    """privoxy with Debian's actions and filters."""

    program = "privoxy"
    package = "privoxy"
    options = ("--no-daemon",)
    template = """\
listen-address 127.0.0.1:{port}
confdir /etc/privoxy
logdir {directory}
actionsfile match-all.action
actionsfile default.action
filterfile default.filter
toggle 1
buffer-limit 4096
keep-alive-timeout 5
tolerate-pipelining 1
socket-timeout 300
{rules}
"""


class HAProxy(RealProxy):
    """HAProxy in HTTP mode, in front of a server, with Debian's time limits."""

    program = "haproxy"
    package = "haproxy"
    options = ("-f",)
    template = """\
defaults
    mode http
    option http-no-delay
    timeout connect 5000
    timeout client 50000
    timeout server 50000
{rules}
frontend front
    bind 127.0.0.1:{port}
    default_backend behind
backend behind
    server origin 127.0.0.1:{origin}
"""


class Nginx(RealProxy):
    """nginx that passes on to a server by ``proxy_pass``, the rest by default."""

    program = "nginx"
    package = "nginx"
    options = ("-e", "stderr", "-g", "daemon off; master_process off;", "-c")
    template = """\
pid {directory}/pid;
error_log stderr;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{origin}; }}
        {rules}
    }}
}}
"""
