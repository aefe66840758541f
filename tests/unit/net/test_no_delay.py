"""Small writes on TCP do not wait for earlier ones to be acknowledged."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.cloud_stream import CloudStream
from dwcloud.net.http_client import HTTPClientConnection
from dwcloud.net.http_messages import Request, plain_response
from dwcloud.net.http_server import HTTPServerFactory
from dwcloud.testing import World


class NoDelayTests(SynchronousTestCase):
    """Two hosts with TCP between them."""

    def setUp(self) -> None:
        self.world = World(seed=1)
        internet = self.world.internet()
        self.server = internet.host("203.0.113.5")
        self.client = internet.host("203.0.113.20")
        self.requests: list[Request] = []
        factory = HTTPServerFactory(self.answer, self.server.reactor)
        self.server.reactor.listenTCP(80, factory)
        self.endpoint = TCP4ClientEndpoint(self.client.reactor, "203.0.113.5", 80)

    def answer(self, request: Request) -> Any:
        self.requests.append(request)
        return plain_response(200, "Here.")

    def test_http(self) -> None:
        """Neither side of HTTP holds anything back, nor does what becomes of it."""
        connection: Any = self.world.run_until(
            connectProtocol(self.endpoint, HTTPClientConnection("h"))
        )
        self.assertTrue(connection.transport.getTcpNoDelay())
        self.world.run_until(connection.request("GET", "/"))
        (request,) = self.requests
        accepted: Any = request.connection
        self.assertTrue(accepted.transport.getTcpNoDelay())

    def test_stream(self) -> None:
        """A stream of an application does not either."""

        class Opening:
            def path_connected(self, stream: CloudStream) -> None:
                """Nothing is said on it."""

        stream = CloudStream(Opening(), self.client.reactor)  # type: ignore[arg-type]
        self.world.run_until(connectProtocol(self.endpoint, stream))
        path: Any = stream.transport
        self.assertTrue(path.getTcpNoDelay())
