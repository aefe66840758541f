"""Whom the relay lets in by browser, and the way to the portal for all others."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape

from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolNegotiationFactory,
    IReactorTime,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

from dwcloud.net.http_messages import Response
from dwcloud.net.signing import SigningKey, verifier
from dwcloud.net.silence import SilenceTable
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.gateway.cookies import (
    LOGIN_COOKIE,
    SESSION_COOKIE,
    clear_cookie,
    cookie_of,
    set_cookie,
)
from dwcloud.protocol.gateway.hosts import WebHost
from dwcloud.protocol.gateway.login import (
    ENTER_PATH,
    LEAVE_PATH,
    PendingLogin,
    read_entry,
)
from dwcloud.protocol.gateway.requests import BrowserRequest
from dwcloud.protocol.gateway.return_paths import OWN_PATHS, return_path
from dwcloud.relay.gateway.browser import BrowserConnection
from dwcloud.relay.gateway.options import GatewaySettings
from dwcloud.relay.gateway.pages import Trouble, page
from dwcloud.relay.gateway.sessions import WebSession, WebSessions
from dwcloud.relay.gateway.statistics import GatewayStatistics
from dwcloud.relay.gateway.streams import ServerStreams
from dwcloud.relay.statistics import Figures
from dwcloud.relay.switchboard import Switchboard

__all__ = ["MAX_CONNECTIONS", "Gateway"]

MAX_CONNECTIONS = 5_000
"""Connections of browsers at a time that wait for their next request."""

_LOGIN_SECONDS = 600
_SECRET_BYTES = 32


@implementer(IProtocolNegotiationFactory)
class Gateway(Factory):
    """Takes the connections of browsers.

    :param relay_protocol: makes the protocol of connections that are for the relay.
    :param clock: gives seconds since 1970 (UTC).
    :ivar domain: below which systems are found.
    :ivar connections: those that wait for a request.
    :ivar statistics: what has been done.
    """

    log = Logger()
    noisy = False

    def __init__(
        self,
        reactor: IReactorTime,
        switchboard: Switchboard,
        settings: GatewaySettings,
        *,
        relay_protocol: Callable[[], IProtocol],
        random_bytes: Callable[[int], bytes],
        clock: Callable[[], float] = time.time,
        capacity: int = MAX_CONNECTIONS,
    ) -> None:
        self._reactor = reactor
        self.domain = settings.domain
        self._portal = settings.portal
        self._random_bytes = random_bytes
        self.relay_protocol = relay_protocol
        # Grants are worth nothing without it, and nobody else needs to know it.
        self._key = SigningKey.from_bytes(random_bytes(32))
        self.sessions = WebSessions(
            clock, random_bytes, verifier(settings.cloud_key), self._key.public_key
        )
        self._clock = clock
        self.statistics = GatewayStatistics()
        self.streams = ServerStreams(reactor, switchboard, self._key, self.statistics)
        self.connections: SilenceTable[BrowserConnection] = SilenceTable(
            reactor, None, capacity, BrowserConnection.abort
        )

    def buildProtocol(self, addr: IAddress | None) -> BrowserConnection:
        """Take a connection."""
        return BrowserConnection(self, self._reactor)

    def acceptableProtocols(self) -> list[bytes]:
        """Tell browsers, which would like another one, what is spoken (RFC 7301)."""
        return [b"http/1.1"]

    def stop(self) -> None:
        """Break all connections."""
        self.sessions.end_all()
        for connection in self.connections.stop():
            connection.abort()

    # Figures

    def now(self) -> float:
        """The reactor's time, seconds."""
        return self._reactor.seconds()

    def answered_after(self, began: float) -> None:
        """The head of an answer has come to a request of then."""
        self.statistics.answer_seconds.observe(max(0.0, self.now() - began))

    def figures(self) -> Figures:
        """What there is, and what has been done."""
        return {
            "sessions": self.sessions.count(),
            "idle_connections": len(self.connections),
            **self.statistics.totals(),
        }

    # Requests

    def concerns(self, request: BrowserRequest) -> bool:
        """Tell whether a request is for a host below the domain."""
        return self.domain.includes(request.host)

    def decide(self, request: BrowserRequest) -> Response | WebSession:
        """Answer a request, or return the session that may ask the server.

        :raises Trouble: if it is refused.
        :raises RemoteProtocolError: if it is malformed.
        """
        host = self.domain.find(request.host)
        if host is None:
            raise Trouble(
                404,
                "There is no such system",
                f"The name of a system's host is its GUID below {self.domain}, or "
                "that of a server and of its system, with a dot between them.",
            )
        if request.is_foreign(host.origin):
            raise Trouble(
                403,
                "Pages of other sites may not use this one",
                "The request came from a page of another host.",
            )
        cookies = request.field("cookie")
        session = self.sessions.find(host, cookie_of(cookies, SESSION_COOKIE))
        if request.path.startswith(OWN_PATHS):
            answer = self._answer(request, host, session, cookies)
            self.statistics.requests["own"] += 1
            return answer
        if session is not None:
            return session
        if not request.is_navigation:
            raise Trouble(
                401,
                "You are not signed in",
                "Open a page of this host to sign in.",
                result="signed_out",
            )
        return self._to_portal(request, host)

    def _to_portal(self, request: BrowserRequest, host: WebHost) -> Response:
        login = PendingLogin(
            self._random_bytes(_SECRET_BYTES), return_path(request.target)
        )
        self.statistics.requests["portal"] += 1
        address = login.portal_address(self._portal, host, self._key.public_key)
        return _redirect(
            address, set_cookie(LOGIN_COOKIE, login.cookie, _LOGIN_SECONDS)
        )

    def _answer(
        self,
        request: BrowserRequest,
        host: WebHost,
        session: WebSession | None,
        cookies: str,
    ) -> Response:
        match request.method, request.path:
            case "GET", path if path == ENTER_PATH:
                return self._enter(request, host, session, cookies)
            case "GET", path if path == OWN_PATHS and session is not None:
                return _about(host, session)
            case "POST", path if path == LEAVE_PATH:
                if session is not None:
                    self.sessions.end(session)
                return page(
                    200,
                    "You have left",
                    "<p>This browser may not see the system any more. "
                    '<a href="/">Enter again</a></p>\n',
                    (clear_cookie(SESSION_COOKIE),),
                )
            case "GET", path if path == OWN_PATHS:
                return _redirect("/")
        raise Trouble(404, "There is nothing here", "The address is mistyped.")

    def _enter(
        self,
        request: BrowserRequest,
        host: WebHost,
        session: WebSession | None,
        cookies: str,
    ) -> Response:
        """Let a browser in that comes back from the portal."""
        try:
            state, encoded = read_entry(request.query)
            login = PendingLogin.from_cookie(cookie_of(cookies, LOGIN_COOKIE))
            if not login.matches(state):
                raise RemoteProtocolError("it was begun elsewhere, or too long ago")
        except RemoteProtocolError as e:
            if session is not None:
                # Another tab was faster.
                return _redirect("/")
            self.statistics.logins["foreign"] += 1
            raise Trouble(
                400,
                "This sign-in was not begun here",
                f"Nothing was done: {e}.",
            ) from e
        try:
            entered, cookie = self.sessions.begin(host, encoded)
        except RemoteProtocolError as e:
            self.statistics.logins["refused"] += 1
            self.log.info(
                "a browser was not let in to {host}: {reason}",
                host=host.authority,
                reason=str(e),
            )
            raise Trouble(
                403,
                "The portal's word does not count here",
                f"Nothing was done: {e}.",
                headers=(clear_cookie(LOGIN_COOKIE),),
            ) from e
        if session is not None:
            self.sessions.end(session)
        self.statistics.logins["entered"] += 1
        self.log.info(
            "browser of account {account} has entered {host}",
            account=entered.grant.account_name,
            host=host.authority,
        )
        seconds = max(0, int(entered.expires - self._clock()))
        return _redirect(
            return_path(login.path),
            set_cookie(SESSION_COOKIE, cookie, seconds),
            clear_cookie(LOGIN_COOKIE),
        )


def _redirect(address: str, *headers: tuple[str, str]) -> Response:
    return page(
        303,
        "This way",
        f'<p><a href="{escape(address)}">Go on</a></p>\n',
        (("Location", address), *headers),
    )


def _about(host: WebHost, session: WebSession) -> Response:
    name = escape(session.grant.account_name)
    return page(
        200,
        "Browsing through a relay",
        f"<p>You see system {host.name} as {name}. From the relay to the server all is "
        "encrypted, and from your browser to the relay as well, but the relay itself "
        "can read it.</p>\n"
        f'<form method="post" action="{LEAVE_PATH}"><button>Leave</button></form>\n',
    )
