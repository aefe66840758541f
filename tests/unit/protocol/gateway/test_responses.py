"""Answers of servers on their way to a browser."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.gateway.responses import to_browser

HOST = "x.relay.example.org:8443"


class ResponseTests(SynchronousTestCase):
    """Fields of an answer."""

    def passed(self, *fields: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        return to_browser(fields, HOST)

    def test_hop_by_hop(self) -> None:
        """What is for the gateway only does not go on; the rest does, in order."""
        fields = self.passed(
            (b"content-type", b"text/html"),
            (b"connection", b"close, x-once"),
            (b"x-once", b"1"),
            (b"transfer-encoding", b"chunked"),
            (b"keep-alive", b"timeout=5"),
            (b"upgrade", b"h2c"),
            (b"set-cookie", b"a=1; Path=/"),
            (b"set-cookie", b"b=2"),
            (b"content-length", b"5"),
        )
        self.assertEqual(
            fields,
            [
                (b"content-type", b"text/html"),
                (b"set-cookie", b"a=1; Path=/"),
                (b"set-cookie", b"b=2"),
                (b"content-length", b"5"),
            ],
        )

    def test_not_for_neighbours(self) -> None:
        """A server does nothing to other systems' hosts, nor to the gateway."""
        fields = self.passed(
            (b"clear-site-data", b'"cookies"'),
            (b"alt-svc", b'h3="evil:443"'),
            (b"set-cookie", b"__Host-dwcloud-web=x; Path=/; Secure"),
            (b"set-cookie", b"a=1; Domain=relay.example.org"),
        )
        self.assertEqual(fields, [(b"set-cookie", b"a=1")])

    def test_location(self) -> None:
        """Who knows of no TLS sends to plain HTTP of this host; others are theirs."""
        for given, wanted in (
            (f"http://{HOST}/a", f"https://{HOST}/a"),
            (f"HTTP://{HOST}", f"https://{HOST}"),
            (f"http://{HOST}.evil/", f"http://{HOST}.evil/"),
            ("http://other/", "http://other/"),
            ("/a", "/a"),
        ):
            self.assertEqual(
                self.passed((b"location", given.encode())),
                [(b"location", wanted.encode())],
            )
