"""What a relay tells Prometheus of the browsers that it lets in."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.metrics import render
from dwcloud.protocol.gateway.cookies import SESSION_COOKIE
from dwcloud.protocol.grants import AccessState
from dwcloud.relay.gateway.statistics import LOGINS, REQUESTS
from dwcloud.relay.metrics import families
from tests.exposition import complaints, read_metrics, values
from tests.unit.relay.gateway.gateway_world import (
    DOMAIN,
    GatewayTestCase,
    WebService,
    cookie_set,
    silent,
)

PREFIX = "dwcloud_relay_web_"


class FiguresTests(GatewayTestCase):
    """Figures after something has happened."""

    def read(self) -> Any:
        """The page that Prometheus reads."""
        text = render(families([self.relay.figures()]), "")[0].decode()
        self.assertEqual(complaints(text), "")
        return read_metrics(text)

    def counted(self, name: str) -> dict[str, float]:
        """A counter by result, without what did not happen."""
        found = values(self.read()[PREFIX + name], "_total", ("worker", "result"))
        return {result: n for (_, result), n in found.items() if n}

    def gauge(self, name: str) -> float:
        """A figure of this moment."""
        return values(self.read()[PREFIX + name])[("0",)]

    def test_all_from_the_start(self) -> None:
        """Each result is there before it happens, so that its rate is right."""
        for name, known in (("requests", REQUESTS), ("logins", LOGINS)):
            found = values(self.read()[PREFIX + name], "_total", ("worker", "result"))
            self.assertEqual(found, {("0", result): 0 for result in known})

    def test_page(self) -> None:
        """A page: sent to the portal, entered, answered, and how long that took."""
        self.serve()
        self.web.script = self.large
        cookie = self.enter()
        self.assertEqual(self.gauge("sessions"), 1)
        browser = self.browse()
        answer = self.ask_web(cookie=cookie, browser=browser)
        self.assertEqual(len(answer.body), 100_000)
        self.assertEqual(self.gauge("streams"), 1)
        self.assertEqual(self.counted("logins"), {"entered": 1})
        requests = {"portal": 1, "own": 1, "answered": 1}
        self.assertEqual(self.counted("requests"), requests)
        seconds = values(self.read()[f"{PREFIX}answer_seconds"], "_count")
        self.assertEqual(seconds, {("0",): 1})
        labels = ("worker", "direction")
        carried = values(self.read()[f"{PREFIX}bytes"], "_total", labels)
        # Encrypted, with what opens the stream.
        self.assertGreater(carried[("0", "to_client")], 100_000)
        self.assertLess(carried[("0", "to_client")], 120_000)
        self.assertGreater(carried[("0", "to_server")], 100)
        total = values(self.read()["dwcloud_relay_payload_bytes"], "_total", labels)
        self.assertEqual(total, carried)
        browser.transport.loseConnection()
        self.world.run_until(lambda: self.gauge("streams") == 0)
        self.world.advance(3700)
        self.assertEqual(self.gauge("sessions"), 0)

    @staticmethod
    def large(service: WebService) -> None:
        """Answer with a good deal."""
        if service.take_request() is not None:
            head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
            service.transport.write(head + b"x" * 100_000)

    def test_refused_logins(self) -> None:
        """Those who come back with what does not count, by whose fault it is."""
        query, login = self.to_portal()
        grant = self.grant_for(query["key"])
        self.ask_web(self.entry(query, grant), cookie="")
        self.assertEqual(self.counted("logins"), {"foreign": 1})
        answer = self.ask_web(self.entry(query, grant), cookie=login)
        cookie_set(answer, SESSION_COOKIE)
        self.ask_web(self.entry(query, grant), cookie=login)
        logins = {"foreign": 1, "entered": 1, "refused": 1}
        self.assertEqual(self.counted("logins"), logins)
        requests = {"portal": 1, "own": 1, "refused": 2}
        self.assertEqual(self.counted("requests"), requests)

    def test_refused_requests(self) -> None:
        """Malformed, to nobody, and without a sign-in."""
        self.ask_web(host=f"x.{DOMAIN}")
        self.ask_web(host=f"{uuid.uuid4()}.{DOMAIN}", navigation=False)
        browser = self.browse()
        browser.send_raw(b"nonsense\r\n\r\n")
        self.answer(browser)
        self.assertEqual(self.counted("requests"), {"refused": 2, "signed_out": 1})

    def test_trouble(self) -> None:
        """Whose fault it is that there is no page."""
        cookie = self.enter()
        self.assertEqual(self.ask_web(cookie=cookie).status, 502)
        self.serve()
        self.web.script = lambda service: service.transport.loseConnection()
        self.assertEqual(self.ask_web(cookie=cookie).status, 502)
        self.change(AccessState(is_bound=True, has_web=False))
        self.assertEqual(self.ask_web(cookie=cookie).status, 403)
        found = self.counted("requests")
        for result in ("offline", "no_answer", "denied"):
            self.assertEqual(found[result], 1, result)
        self.assertEqual(self.gauge("streams"), 0)

    def test_no_service(self) -> None:
        """A server that publishes nothing for browsers."""
        self.services = {"a": self.web, "b": self.web}
        self.serve()
        self.assertEqual(self.ask_web(cookie=self.enter()).status, 502)
        self.assertEqual(self.counted("requests")["no_service"], 1)

    def test_left(self) -> None:
        """A browser that does not wait for the end."""
        self.serve()
        cookie = self.enter()
        self.web.script = silent
        browser = self.browse()
        request = f"GET / HTTP/1.1\r\nHost: {self.host}\r\nCookie: {cookie}\r\n\r\n"
        browser.send_raw(request.encode())
        self.world.run_until(lambda: bool(self.web.connections))
        browser.transport.abortConnection()
        self.world.run_until(lambda: self.counted("requests").get("left") == 1)
        self.world.run_until(lambda: self.gauge("streams") == 0)

    def test_cut(self) -> None:
        """A service that ends in the middle of its answer."""
        self.serve()
        self.web.script = self.half
        browser = self.browse()
        request = f"GET / HTTP/1.1\r\nHost: {self.host}\r\nCookie: {self.enter()}"
        browser.send_raw(request.encode() + b"\r\n\r\n")
        self.world.run_until(lambda: browser.lost is not None)
        self.assertEqual(self.counted("requests")["cut"], 1)

    @staticmethod
    def half(service: WebService) -> None:
        """Answer with half of what was promised."""
        service.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        service.transport.loseConnection()


class ResultsTests(SynchronousTestCase):
    """Labels are from fixed lists."""

    def test_documented(self) -> None:
        """The page for operators has each of them."""
        page = Path(__file__).parents[4] / "docs" / "howto" / "operate.rst"
        text = page.read_text("utf-8")
        for result in (*REQUESTS, *LOGINS):
            self.assertIn(f"``{result}``", text)
