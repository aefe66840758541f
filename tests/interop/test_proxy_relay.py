"""A server and a client behind real proxies, at a relay."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dwcloud.net.identity import SystemIdentity
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tunnel_selector import TunnelSelector
from dwcloud.peer.relay_client import RelayClientEndpoint
from dwcloud.peer.relay_pool import RelayPool
from dwcloud.protocol.tunnelling import prober
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.relay.service import RelayService
from tests.interop.proxy_programs import Privoxy, RealProxy, Squid, Tinyproxy, free_port
from tests.quiet_reactor import become_quiet


class _Echo(Protocol):
    """Sends back what it gets."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class _Asker(Protocol):
    """Sends something and waits until it has come back."""

    def __init__(self) -> None:
        self.sent = os.urandom(300_000)
        self.received = b""
        self.done: Deferred[str] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.sent)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if len(self.received) == len(self.sent):
            self.done.callback(hashlib.sha256(self.received).hexdigest())


class ProxiedRelayTests(TestCase):
    """Both ends at one relay, each through the proxy, by what the race selects."""

    timeout = 150

    async def both_ends(self, kind: type[RealProxy], method: str) -> set[str]:
        """Echo a file; return the methods by which the server waits."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        # The cheapest wins that works, however slow this machine is at the moment.
        self.patch(prober, "STAGGER", 2.5)
        # Tunnels of short requests take leave, each by a connection of its own.
        self.addCleanup(become_quiet, reactor)
        relay = RelayService(reactor, ["tcp:0:interface=127.0.0.1"])
        relay.startService()
        self.addCleanup(relay.stopService)
        address: Any = relay.ports[0].getHost()
        # Squid and tinyproxy do not CONNECT to the relay's port.
        proxy = kind(reactor, await free_port(reactor), 443)
        self.addCleanup(proxy.stop)
        await proxy.start()
        # Tunnels of short requests take leave through the proxy.
        self.addCleanup(deferLater, reactor, 1.0)
        url = f"http://127.0.0.1:{address.port}"
        settings = ProxySettings.of(Proxy("127.0.0.1", proxy.port))

        def proxies() -> Proxies:
            selector = TunnelSelector(self.reactor, method=method)
            self.addCleanup(selector.stop)
            return Proxies(reactor, settings, selector)

        identity = SystemIdentity.generate().issue_server()
        factory = Factory.forProtocol(_Echo)
        pool = RelayPool(self.reactor, url, identity, factory, proxies=proxies())
        pool.startService()
        self.addCleanup(pool.stopService)
        while pool.idle_connections < 7:
            await deferLater(self.reactor, 0.05)
        endpoint = RelayClientEndpoint(
            self.reactor, url, identity.name, proxies=proxies()
        )
        asker: Any = await connectProtocol(endpoint, _Asker())
        digest = await asker.done
        self.assertEqual(digest, hashlib.sha256(asker.sent).hexdigest())
        asker.transport.loseConnection()
        return {pool.selected_method}

    async def test_tinyproxy(self) -> None:
        """tinyproxy holds the answer back until a body has ended."""
        self.assertEqual(await self.both_ends(Tinyproxy, "auto"), {"get_post"})

    async def test_tinyproxy_by_messages(self) -> None:
        """It makes a new connection for each short request."""
        await self.both_ends(Tinyproxy, "finite_messages")

    async def test_squid(self) -> None:
        """Squid passes on one POST both ways."""
        self.assertEqual(await self.both_ends(Squid, "auto"), {"post"})

    async def test_privoxy(self) -> None:
        """privoxy connects to any port, and so anything works inside."""
        self.assertEqual(await self.both_ends(Privoxy, "auto"), {"upgrade"})
