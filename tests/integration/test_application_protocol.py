"""TLS of an ``ssl:`` endpoint, with clients that would like HTTP/2 as browsers do."""

from __future__ import annotations

import ssl
from pathlib import Path
from socket import create_connection
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dwcloud.mediator.first_byte import FirstByteFactory
from dwcloud.net.http_messages import Routes
from dwcloud.net.http_server import HTTPServerFactory
from tests.certificates import tls_endpoint


def negotiated(port: int, *offered: str) -> str | None:
    """Connect, and return the protocol that the server has chosen."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if offered:
        context.set_alpn_protocols(list(offered))
    with (
        create_connection(("127.0.0.1", port), timeout=60) as plain,
        context.wrap_socket(plain) as stream,
    ):
        return stream.selected_alpn_protocol()


class ApplicationProtocolTests(TestCase):
    """What is spoken inside."""

    timeout = 120

    async def check(self, factory: Any) -> None:
        """Connect to a factory's port as browsers and as our own programs do."""
        from twisted.internet import reactor

        directory = Path(self.mktemp())
        directory.mkdir()
        endpoint = tls_endpoint(directory, 0) + ":interface=127.0.0.1"
        port: Any = await serverFromString(reactor, endpoint).listen(factory)
        self.addCleanup(port.stopListening)
        number = port.getHost().port
        browser = await deferToThread(negotiated, number, "h2", "http/1.1")
        self.assertEqual(browser, "http/1.1")
        self.assertIsNone(await deferToThread(negotiated, number))

    async def test_http(self) -> None:
        """The HTTP server of relay and mediator."""
        from twisted.internet import reactor

        await self.check(HTTPServerFactory(Routes(), reactor))  # type: ignore[arg-type]

    async def test_mediator(self) -> None:
        """A port of the mediator on which STUN and HTTP meet."""
        from twisted.internet import reactor

        nobody = Factory()
        http = HTTPServerFactory(Routes(), reactor)  # type: ignore[arg-type]
        factory = FirstByteFactory(reactor, nobody, http, limit=9, capacity=9)
        self.addCleanup(factory.closeAll)
        await self.check(factory)
