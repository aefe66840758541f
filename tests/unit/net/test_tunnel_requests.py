"""Requests that open tunnels, as an application sees them."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.http_messages import Request
from dwcloud.net.tunnel_requests import as_upgrade


class AsUpgradeTests(SynchronousTestCase):
    def test_request(self) -> None:
        """It is one for ``upgrade``, with all that tells who asks, and no more."""
        connection: Any = Protocol()
        connection.makeConnection(StringTransport())
        request = Request(
            "POST",
            "/x/post",
            "tunnel=1",
            (
                (b"connection", b"keep-alive"),
                (b"upgrade", b"h2c"),
                (b"dwcloud-upgrade", b"dwcloud-relay"),
                (b"authorization", b"DWCloud x"),
            ),
            b"body",
            connection.transport.getPeer(),
            True,
            connection,
        )
        shown = as_upgrade(request)
        self.assertEqual(
            (shown.method, shown.path, shown.query, shown.body),
            ("GET", "/x/upgrade", "", b""),
        )
        self.assertEqual(
            shown.headers,
            (
                (b"dwcloud-upgrade", b"dwcloud-relay"),
                (b"authorization", b"DWCloud x"),
                (b"connection", b"upgrade"),
                (b"upgrade", b"dwcloud-relay"),
            ),
        )
        self.assertIs(shown.connection, connection)
        self.assertEqual((shown.peer, shown.secure), (request.peer, True))
