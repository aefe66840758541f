"""``/metrics`` and ``/health``: who may read, and what is answered."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import succeed
from twisted.internet.interfaces import IAddress
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.metrics import gauge
from dwcloud.net.http_messages import Request, Response
from dwcloud.net.observation import (
    Health,
    MetricsOptions,
    MetricsPage,
    MetricsReaders,
)
from tests.exposition import hide_package, read_metrics

HERE = IPv4Address("TCP", "127.0.0.1", 5)
ELSEWHERE = IPv4Address("TCP", "192.0.2.7", 5)


def request(peer: IAddress = HERE, **headers: str) -> Request:
    """A request for a page, by a connection that the page does not look at."""
    connection: Any = None
    fields = tuple(
        (name.replace("_", "-").encode(), value.encode())
        for name, value in headers.items()
    )
    return Request("GET", "/metrics", "", fields, b"", peer, False, connection)


class ReadersTests(SynchronousTestCase):
    """Who may read metrics."""

    def admits(self, readers: MetricsReaders, host: str) -> bool:
        kind = IPv6Address if ":" in host else IPv4Address
        return readers.admit(request(kind("TCP", host, 1)))

    def test_this_machine(self) -> None:
        """By default the machine itself, over whichever family and socket."""
        readers = MetricsReaders.parse([])
        for host in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
            self.assertTrue(self.admits(readers, host), host)
        self.assertTrue(readers.admit(request(UNIXAddress("/run/dwcloud"))))
        for host in ("192.0.2.7", "10.0.0.1", "::ffff:192.0.2.7", "fe80::1%eth0"):
            self.assertFalse(self.admits(readers, host), host)

    def test_networks(self) -> None:
        """Networks and addresses that are named, in place of the default."""
        readers = MetricsReaders.parse(["192.0.2.0/24", "2001:db8::5"])
        self.assertTrue(self.admits(readers, "192.0.2.7"))
        self.assertTrue(self.admits(readers, "2001:db8::5"))
        self.assertFalse(self.admits(readers, "2001:db8::6"))
        self.assertFalse(self.admits(readers, "127.0.0.1"))

    def test_any_and_none(self) -> None:
        """Everybody, or nobody at all."""
        anybody, nobody = MetricsReaders.parse(["any"]), MetricsReaders.parse(["none"])
        self.assertTrue(self.admits(anybody, "192.0.2.7"))
        self.assertFalse(self.admits(nobody, "127.0.0.1"))
        self.assertFalse(nobody.admit(request(UNIXAddress("/run/dwcloud"))))

    def test_proxies(self) -> None:
        """What a proxy on this machine passes on does not come from this machine."""
        readers = MetricsReaders.parse([])
        for name in ("forwarded", "x_forwarded_for", "x_real_ip", "via"):
            self.assertFalse(readers.admit(request(**{name: "127.0.0.1"})), name)
        passed_on = request(x_forwarded_for="192.0.2.7")
        self.assertTrue(MetricsReaders.parse(["any"]).admit(passed_on))

    def test_option(self) -> None:
        """What is no network is refused with what would be right."""
        options = MetricsOptions()
        options.parseOptions(["--metrics-from=10.0.0.0/8", "--metrics-from=::1"])
        self.assertTrue(self.admits(options.metrics_readers, "10.1.1.1"))
        for words, expected in (
            (["--metrics-from=home"], "expected a network such as 192.0.2.0/24"),
            (["--metrics-from=10.0.0.1/8"], "host bits"),
            (["--metrics-from=any", "--metrics-from=::1"], "goes with no other"),
        ):
            error = self.assertRaises(UsageError, MetricsOptions().parseOptions, words)
            self.assertIn(expected, str(error))


class PageTests(SynchronousTestCase):
    """What is answered."""

    def ask(self, page: MetricsPage, peer: IAddress = HERE) -> Response:
        answering: Any = page(request(peer))
        if isinstance(answering, Response):
            return answering
        answer = self.successResultOf(answering)
        assert isinstance(answer, Response)
        return answer

    def page(self) -> MetricsPage:
        return MetricsPage(lambda: [gauge("g", "A value.", 1)], MetricsReaders())

    def test_metrics(self) -> None:
        """Metrics are shown, whether they are there at once or later."""
        for families in (
            lambda: [gauge("g", "A value.", 1)],
            lambda: succeed([gauge("g", "A value.", 1)]),
        ):
            answer = self.ask(MetricsPage(families, MetricsReaders()))
            self.assertEqual(answer.status, 200)
            self.assertIn("g", read_metrics(answer.body.decode()))

    def test_strangers(self) -> None:
        """Who may not read is told how that could be changed, and nothing else."""
        answer = self.ask(self.page(), ELSEWHERE)
        self.assertEqual(answer.status, 403)
        self.assertIn(b"--metrics-from", answer.body)

    def test_package_missing(self) -> None:
        """Without the package the answer says what to install."""
        hide_package(self, "prometheus_client")
        answer = self.ask(self.page())
        self.assertEqual(answer.status, 501)
        self.assertIn(b"pip install 'dwcloud[metrics]'", answer.body)

    def test_health(self) -> None:
        """200 while everything is as it should be, else 503 and why."""
        problems: list[str] = []
        health = Health(lambda: problems)
        answer: Any = health(request(ELSEWHERE))
        self.assertEqual(answer.status, 200)
        self.assertEqual(json.loads(answer.body), {"status": "ok"})
        problems.append("it stops")
        answer = health(request(ELSEWHERE))
        self.assertEqual(answer.status, 503)
        self.assertEqual(
            json.loads(answer.body), {"status": "unavailable", "problems": ["it stops"]}
        )
