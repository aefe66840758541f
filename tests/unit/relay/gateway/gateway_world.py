"""A relay that lets browsers in, a bound server behind it, and a browser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import h11
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from dwcloud.peer.acceptor import StreamAcceptor
from dwcloud.peer.server_access import ServerAccess
from dwcloud.peer.sessions import ConnectSessions
from dwcloud.peer.status import PathKind, ServerEvent
from dwcloud.protocol.gateway.cookies import LOGIN_COOKIE, SESSION_COOKIE
from dwcloud.protocol.gateway.hosts import WebDomain, WebHost
from dwcloud.protocol.gateway.login import decode_token, entry_address
from dwcloud.protocol.grants import AccessState, GrantKind, Revocation
from dwcloud.protocol.mediation.messages import AccessChanged
from dwcloud.protocol.names import PeerName
from dwcloud.relay.gateway.options import GatewaySettings
from tests.unit.peer.cloud_grants import TestCloud
from tests.unit.relay.relay_world import RelayTestCase

DOMAIN = WebDomain("relay.example.org")
PORTAL = "https://mediator.example.org:3345"
NAVIGATION = (
    ("Accept", "text/html"),
    ("Sec-Fetch-Site", "none"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
)
WEB_ON = AccessState(is_bound=True, has_web=True)


@attrs.define
class Answer:
    """What a browser got."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    is_whole: bool = False

    def all(self, name: str) -> list[str]:
        """All values of a field."""
        wanted = name.lower().encode()
        return [v.decode() for key, v in self.headers if key == wanted]

    def header(self, name: str) -> str:
        """The value of a field, empty without it."""
        return ", ".join(self.all(name))

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")


class Browser(Protocol):
    """A connection of a browser: sends anything, reads HTTP.

    :ivar answers: all that came so far, the last maybe in part.
    :ivar after_switch: what came after a 101.
    """

    transport: Any

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self.answers: list[Answer] = []
        self.after_switch = b""
        self.lost: Failure | None = None

    def send(self, *events: Any) -> None:
        """Send in proper form."""
        for event in events:
            data = self._http.send(event)
            if data:
                self.transport.write(data)

    def send_raw(self, data: bytes, method: bytes = b"GET") -> None:
        """Send whatever; read an answer as one to ``method``."""
        self._http.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        self._http.send(h11.EndOfMessage())
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        if self.answers and self.answers[-1].status == 101:
            self.after_switch += data
            return
        self._http.receive_data(data)
        self._read()

    def _read(self) -> None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    self.answers.append(Answer(101, list(event.headers)))
                    self.after_switch = self._http.trailing_data[0]
                    return
            elif isinstance(event, h11.Response):
                self.answers.append(Answer(event.status_code, list(event.headers)))
            elif isinstance(event, h11.Data):
                self.answers[-1].body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.answers[-1].is_whole = True
                if self._http.our_state is self._http.their_state is h11.DONE:
                    self._http.start_next_cycle()
                return
            else:
                return

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost = reason
        if self.answers and not self.answers[-1].is_whole:
            try:
                self._http.receive_data(b"")
                self._read()
            except h11.RemoteProtocolError:
                pass


class WebService(Protocol):
    """The web service of the server: what it does is what its factory's script says."""

    transport: Any

    def __init__(self, factory: WebFactory) -> None:
        self.factory: Any = factory
        self.received = bytearray()
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        self.factory.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.factory.script(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost = reason

    @property
    def text(self) -> str:
        """What it was sent."""
        return self.received.decode("latin-1")

    def take_request(self) -> bytes | None:
        """Take one request without a body off the front, if it is whole."""
        head, end, rest = bytes(self.received).partition(b"\r\n\r\n")
        if not end:
            return None
        self.received[:] = rest
        return head + end


def hello(service: WebService) -> None:
    """Answer each request, and stay connected."""
    while (head := service.take_request()) is not None:
        service.factory.requests.append(head.decode("latin-1"))
        service.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


def silent(service: WebService) -> None:
    """Answer nothing."""


class WebFactory(Factory):
    """Makes services, and keeps them and the requests that they had.

    :ivar script: called with a service after each piece of a request.
    """

    noisy = False

    def __init__(self) -> None:
        self.connections: list[WebService] = []
        self.requests: list[str] = []
        self.script: Callable[[WebService], None] = hello

    def buildProtocol(self, addr: Any) -> WebService:
        return WebService(self)


class GatewayTestCase(RelayTestCase):
    """Everything up to the browser."""

    def setUp(self) -> None:
        self.cloud = TestCloud()
        super().setUp()
        self.web = WebFactory()
        self.events: list[ServerEvent] = []
        self.services: dict[str, Any] = {"web": self.web}
        self.access = ServerAccess(self.cloud.membership, self.name, self.world.seconds)
        self.system = PeerName(self.name.system)
        self.host = f"{self.name.system}.{DOMAIN}"
        self.change(WEB_ON)

    def start_relay(self) -> None:
        self.service_options = {
            "gateway": GatewaySettings(
                DOMAIN, ("tcp:8443",), PORTAL, self.cloud.key.public_key
            ),
            "clock": self.world.seconds,
            "cloud_key": self.cloud.key.public_key,
        }
        super().start_relay()
        assert self.relay.gateway is not None
        self.gateway = self.relay.gateway

    def serve(self) -> None:
        """Start the server and wait until it is at the relay."""
        self.acceptor = StreamAcceptor(
            self.server_host.reactor,
            self.identity,
            self.services,
            ConnectSessions(self.server_host.reactor),
            self.events.append,
            access=self.access,
        )
        self.full_pool(self.acceptor.factory(PathKind.RELAY))

    def change(self, state: AccessState, *revocations: Revocation) -> None:
        """Let the mediator tell the server something."""
        self.access.change(AccessChanged(state=state, revocations=revocations))

    # The browser

    def browse(self) -> Browser:
        """Connect a browser."""
        endpoint = TCP4ClientEndpoint(self.client_host.reactor, "203.0.113.5", 8443)
        browser = self.world.run_until(connectProtocol(endpoint, Browser()))
        assert isinstance(browser, Browser)
        return browser

    def answer(self, browser: Browser, count: int = 1) -> Answer:
        """Wait for an answer."""
        self.world.run_until(
            lambda: (
                len(browser.answers) >= count and browser.answers[count - 1].is_whole
            )
        )
        return browser.answers[count - 1]

    def ask_web(
        self,
        target: str = "/",
        *fields: tuple[str, str],
        method: str = "GET",
        host: str | None = None,
        cookie: str = "",
        browser: Browser | None = None,
        navigation: bool = True,
    ) -> Answer:
        """Ask for something without a body."""
        browser = browser or self.browse()
        before = len(browser.answers)
        headers = [("Host", host or self.host), *(NAVIGATION if navigation else ())]
        if cookie:
            headers.append(("Cookie", cookie))
        browser.send(
            h11.Request(method=method, target=target, headers=[*headers, *fields]),
            h11.EndOfMessage(),
        )
        return self.answer(browser, before + 1)

    # The portal

    def to_portal(self, target: str = "/", host: str | None = None) -> tuple[Any, str]:
        """Come without a cookie: what the portal is told, and the cookie for later."""
        answer = self.ask_web(target, host=host)
        self.assertEqual(answer.status, 303)
        address = urlsplit(answer.header("location"))
        self.assertEqual(f"{address.scheme}://{address.netloc}", PORTAL)
        query = {k: v[0] for k, v in parse_qs(address.query).items()}
        return query, cookie_set(answer, LOGIN_COOKIE)

    def grant_for(
        self, key: str | bytes, name: PeerName | None = None, **v: Any
    ) -> bytes:
        """What the portal gives, for the key that it was told."""
        key = decode_token(key) if isinstance(key, str) else key
        v.setdefault("kind", GrantKind.GATEWAY)
        name = name or self.name
        return self.cloud.sign(name, self.world.seconds(), client_key=key, **v)

    def entry(
        self, query: dict[str, str], grant: bytes, host: str | None = None
    ) -> str:
        """The target that the portal sends the browser to."""
        web_host = DOMAIN.find(host or self.host) or WebHost(self.system, self.host)
        address = urlsplit(entry_address(web_host, query["state"], grant))
        return f"{address.path}?{address.query}"

    def enter(self, target: str = "/", host: str | None = None, **values: Any) -> str:
        """Go to the portal and back; the cookie of the session."""
        query, login = self.to_portal(target, host)
        grant = self.grant_for(query["key"], **values)
        answer = self.ask_web(self.entry(query, grant, host), host=host, cookie=login)
        self.assertEqual((answer.status, answer.header("location")), (303, target))
        return cookie_set(answer, SESSION_COOKIE)


def cookie_set(answer: Answer, name: str) -> str:
    """The cookie that an answer sets, as a browser sends it back."""
    for field in answer.all("set-cookie"):
        pair = field.partition(";")[0]
        if pair.startswith(f"{name}=") and not pair.endswith("="):
            return pair
    raise AssertionError(f"no {name} in {answer.all('set-cookie')}")


def fields_of(request: str) -> Sequence[str]:
    """The lines of a head, in lower case."""
    return [line.lower() for line in request.split("\r\n")]
