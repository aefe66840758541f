"""NTLM and Negotiate at a proxy that takes its users from the same library."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import connectProtocol

from dwcloud.errors import ProxyAuthenticationFailed, ProxyRefused
from dwcloud.net.proxy_credentials import ProxyCredentials
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.proxy_handshake import why_no_handshake
from dwcloud.protocol.tunnelling.connect import ProxyChallenge
from dwcloud.protocol.tunnelling.methods import METHOD_NAMES
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.testing.ntlm_proxy import NTLMProxy
from dwcloud.testing.proxy import Defects
from tests.requirements import require
from tests.unit.net.stream_world import Recorder, pattern
from tests.unit.relay.relay_world import RelayTestCase

USER = "OFFICE\\user"


class HandshakeTests(RelayTestCase):
    """Clients of a relay behind such a proxy."""

    def setUp(self) -> None:
        super().setUp()
        require(not why_no_handshake(), why_no_handshake())
        users = Path(self.mktemp())
        users.write_text("OFFICE:user:password\n")
        self.patch(os, "environ", {**os.environ, "NTLM_USER_FILE": str(users)})
        self.full_pool()

    def start(
        self, password: str = "password", defects: Defects | None = None, **options: Any
    ) -> Proxies:
        """Start the proxy; return what a client knows of it."""
        self.proxy = NTLMProxy(self.relay_host.reactor, defects, **options)
        self.port = self.relay_host.reactor.listenTCP(3128, self.proxy)
        self.addCleanup(self.port.stopListening)
        proxy = Proxy(self.relay_host.address, 3128, False, USER, password)
        return Proxies(self.client_host.reactor, ProxySettings.of(proxy))

    def exchange(self, proxies: Proxies, method: str = "auto") -> None:
        """Echo some bytes through proxy and relay."""
        recorder = Recorder()
        endpoint = self.client(proxies=proxies, method=method)
        self.world.run_until(connectProtocol(endpoint, recorder), 30.0)
        recorder.transport.write(pattern(50_000))
        self.world.run_until(lambda: len(recorder.data) == 50_000, 60.0)
        self.assertEqual(bytes(recorder.data), pattern(50_000))
        recorder.transport.abortConnection()
        self.world.advance(1.0)

    def test_ntlm(self) -> None:
        """Each connection is proven; the second needs no question first."""
        proxies = self.start()
        self.exchange(proxies, "upgrade")
        self.proxy.requests.clear()
        self.exchange(proxies, "upgrade")
        self.assertEqual({method for method, _ in self.proxy.requests}, {"CONNECT"})
        self.assertEqual(len(self.proxy.requests) % 2, 0)

    def test_negotiate(self) -> None:
        """Negotiate comes to NTLM where there is no Kerberos."""
        self.exchange(self.start(scheme="Negotiate"))

    def test_passed_on(self) -> None:
        """Requests that the proxy passes on are proven, for every method.

        Its answers do not say that they keep the connection: in HTTP/1.1 they need not.
        """
        self.check_passed_on("NTLM")

    def test_negotiate_passed_on(self) -> None:
        """Negotiate proves requests that are passed on, too."""
        self.check_passed_on("Negotiate")

    def check_passed_on(self, scheme: str) -> None:
        proxies = self.start(defects=Defects(connect_ports=()), scheme=scheme)
        for method in METHOD_NAMES:
            self.proxy.proven.clear()
            self.exchange(proxies, method)
            self.assertIn((scheme, "HEAD"), self.proxy.proven)

    def test_passed_on_by_a_closing_proxy(self) -> None:
        """One that closes in the midst of it is an error here, too."""
        proxies = self.start(defects=Defects(connect_ports=()), closes=True)
        connecting = connectProtocol(
            self.client(proxies=proxies, method="finite_messages"), Recorder()
        )
        error = self.assertRaises(ProxyRefused, self.world.run_until, connecting)
        self.assertIn("being proven", str(error))
        self.assertLessEqual(len(self.proxy.requests), 8)

    def test_wrong_password(self) -> None:
        """A wrong password is told, and not tried again and again."""
        for scheme in ("NTLM", "Negotiate"):
            for ports in (None, ()):
                with self.subTest(scheme=scheme, connect_ports=ports):
                    defects = Defects(connect_ports=ports)
                    proxies = self.start("wrong", defects, scheme=scheme)
                    self.check_rejected(proxies)
                    self.port.stopListening()
                    self.world.advance(1.0)

    def check_rejected(self, proxies: Proxies) -> None:
        """Whoever uses these is told that the password is wrong, for hours."""
        asked = []
        for wait in (0.0, 0.0, 1000.0, 1000.0, 1000.0, 3600.0):
            self.world.advance(wait)
            connecting = connectProtocol(self.client(proxies=proxies), Recorder())
            error = self.assertRaises(
                ProxyAuthenticationFailed, self.world.run_until, connecting
            )
            self.assertIn("rejects the password of 'OFFICE\\\\user'", str(error))
            asked.append(len(self.proxy.requests))
        # Nothing more within 15 minutes, and nothing ever after three times.
        self.assertEqual(asked[0], asked[1])
        self.assertEqual(asked[3], asked[5])
        self.assertLessEqual(asked[5], 3 * 4)

    def test_closing(self) -> None:
        """A proxy that closes in the midst of it is an error, not an endless loop."""
        proxies = self.start(closes=True)
        connecting = connectProtocol(
            self.client(proxies=proxies, method="upgrade"), Recorder()
        )
        self.assertRaises(ProxyRefused, self.world.run_until, connecting)
        self.assertLessEqual(len(self.proxy.requests), 8)


class ChoiceTests(RelayTestCase):
    """Which of several schemes is taken."""

    def test_strongest(self) -> None:
        """Negotiate before NTLM before Digest before Basic, as far as there are any."""
        require(not why_no_handshake(), why_no_handshake())
        offers = [
            ProxyChallenge(scheme, 'realm="r", nonce="n"')
            for scheme in ("basic", "digest", "ntlm", "negotiate")
        ]
        for count, chosen in ((4, "negotiate"), (3, "ntlm"), (2, ""), (1, "")):
            credentials = ProxyCredentials(Proxy("h", 1, False, "user", "password"))
            self.assertTrue(credentials.learn(offers[:count], False, 0.0))
            self.assertEqual(credentials.handshake, chosen)

    def test_given_up(self) -> None:
        """A scheme that cannot be used gives way to the next one."""
        credentials = ProxyCredentials(Proxy("h", 1, False, "user", "password"))
        credentials.give_up("ntlm", "NTLM cannot be used here")
        self.assertTrue(
            credentials.learn(
                [ProxyChallenge("ntlm", ""), ProxyChallenge("basic", "")], False, 0.0
            )
        )
        self.assertEqual(credentials.handshake, "")
        self.assertFalse(credentials.learn([ProxyChallenge("ntlm", "")], False, 0.0))
        self.assertIn("NTLM", credentials.rejected)
