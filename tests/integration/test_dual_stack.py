"""Sockets that take both versions of IP, of the system."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, readBody

from dwcloud.net import dual_stack
from dwcloud.net.dual_stack import on_all_addresses, plain_peer, takes_ipv4
from dwcloud.net.http_messages import Reply, Request, Routes, plain_response
from dwcloud.net.http_server import HTTPServerFactory
from dwcloud.protocol.addresses import format_address


class OptionTests(SynchronousTestCase):
    """How a service names all addresses, by what the system has."""

    def named(self, **methods: Any) -> str:
        """Return it with other methods of sockets."""
        replaced = type("Socket", (socket.socket,), methods)
        self.patch(dual_stack.socket, "socket", replaced)
        return on_all_addresses(7)

    def test_both(self) -> None:
        """A socket that takes both is one of IPv6."""
        both = self.named(getsockopt=lambda self, *names: 0, bind=lambda *where: None)
        self.assertEqual(both, r"7:interface=\:\:")

    def test_ipv6_alone(self) -> None:
        """Where such a socket takes IPv6 alone, it is IPv4 that is not left out."""
        self.assertEqual(
            self.named(getsockopt=lambda self, *names: 1, bind=lambda *where: None), "7"
        )

    def test_no_ipv6(self) -> None:
        """Without IPv6 there is IPv4."""

        def refuse(self: object, address: object) -> None:
            raise OSError("no such family")

        self.assertEqual(self.named(bind=refuse), "7")

    def test_plain_peer(self) -> None:
        """A far end of IPv4 is one, and any other stays what it is."""
        shown = IPv6Address("TCP", "::ffff:192.0.2.1", 5)
        self.assertEqual(plain_peer(shown), IPv4Address("TCP", "192.0.2.1", 5))
        others = (
            IPv6Address("TCP", "2001:db8::1", 5),
            IPv6Address("TCP", "fe80::1%eth0", 5),
            IPv4Address("TCP", "192.0.2.1", 5),
            UNIXAddress("/socket"),
        )
        for other in others:
            self.assertIs(plain_peer(other), other)


def _has_ipv6_loopback() -> bool:
    """Tell whether ``::1`` is an address, which ``::`` says nothing of."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class SocketTests(TestCase):
    """What comes to such a socket on the loopback interface."""

    def setUp(self) -> None:
        """Take the reactor that the tests run in."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.socket = on_all_addresses(0)
        if "interface" not in self.socket or not _has_ipv6_loopback():
            self.skipTest("no socket of this system takes both versions of IP")

    @inlineCallbacks
    def test_who_asks(self) -> Any:
        """A service for the web sees an address of IPv4 as such."""
        seen: list[Any] = []

        def show(request: Request) -> Reply:
            seen.append(request.peer)
            return plain_response(200, "shown")

        routes = Routes()
        routes.add("GET", "/", show)
        endpoint = serverFromString(self.reactor, f"tcp:{self.socket}")
        port = yield endpoint.listen(HTTPServerFactory(routes, self.reactor))
        self.addCleanup(port.stopListening)
        self.assertTrue(takes_ipv4(port))
        number = port.getHost().port
        for host in ("127.0.0.1", "::1"):
            url = f"http://{format_address((host, number))}/"
            answer = yield Agent(self.reactor).request(b"GET", url.encode())
            yield readBody(answer)
            self.assertEqual(seen.pop().host, host)

    def test_other_sockets(self) -> None:
        """One of IPv4, or of a single address, does not take both."""
        for interface in ("", "127.0.0.1", "::1"):
            port = self.reactor.listenUDP(0, DatagramProtocol(), interface=interface)
            self.addCleanup(port.stopListening)
            self.assertFalse(takes_ipv4(port), interface)
        both = self.reactor.listenUDP(0, DatagramProtocol(), interface="::")
        self.addCleanup(both.stopListening)
        self.assertTrue(takes_ipv4(both))
