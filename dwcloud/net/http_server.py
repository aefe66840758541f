"""An HTTP/1.1 server that can give its connections away (RFC 9110, 7.8)."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import attrs
import h11
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocolNegotiationFactory,
    IReactorTime,
    ISSLTransport,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.net.dual_stack import plain_peer
from dwcloud.net.http_bodies import BodyStream
from dwcloud.net.http_messages import (
    Application,
    HeaderList,
    Reply,
    Request,
    Response,
    StreamBodies,
    SwitchProtocols,
    plain_response,
)
from dwcloud.net.no_delay import send_at_once
from dwcloud.net.protocol_switch import SwitchingProtocol
from dwcloud.net.silence import SilenceTable

__all__ = [
    "MAX_BODY",
    "MAX_CONNECTIONS",
    "MAX_HEAD",
    "REQUEST_TIMEOUT",
    "Elsewhere",
    "HTTPServerFactory",
    "HTTPServerProtocol",
    "encoded_head",
    "reason_phrase",
]

MAX_HEAD = 16 * 1024
"""Bytes of a request's head; more gets 431."""

MAX_BODY = 64 * 1024
"""Bytes of a request's body; more gets 413."""

MAX_CONNECTIONS = 5_000
"""Connections at a time that are HTTP, not yet given away."""

REQUEST_TIMEOUT = 15.0
"""Seconds for a request to arrive, counted from the connection or the last answer."""

_CLOSE_TIMEOUT = 5.0
_MAX_EARLY = 64 * 1024

_HEADERS = (
    # Proxies and caches must neither keep nor delay anything of ours.
    ("Cache-Control", "no-store"),
    ("X-Accel-Buffering", "no"),
    ("Server", "dwcloud"),
    # A server in front may write its own name there, and proxies answer, too.
    ("DWCloud", "1"),
)


Elsewhere = Callable[[str], Callable[["HTTPServerProtocol", bytes], None] | None]
"""Tells by the target of a request who takes its connection instead of answering here.

That one is called with the protocol, which does nothing any more, and with the request
as far as it has come, and whatever followed it. None if the request is answered here.
"""


class HTTPServerProtocol(SwitchingProtocol):
    """One connection: requests in, answers out, until it is given away."""

    _log = Logger()

    def __init__(
        self,
        application: Application,
        reactor: IReactorTime,
        connections: SilenceTable[HTTPServerProtocol],
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._elsewhere = elsewhere
        self._application = application
        self._reactor = reactor
        self._connections = connections
        self._http = h11.Connection(h11.SERVER, MAX_HEAD)
        self._head: h11.Request | None = None
        self._body = b""
        self._answering: Deferred[Reply] | None = None
        self._early = 0
        self._reading_paused = False
        self._deadline: IDelayedCall | None = None
        self._closing = False
        self._bodies: BodyStream | None = None

    def connectionMade(self) -> None:
        """Give the client its time for the first request."""
        send_at_once(self.transport)
        self._connections.add(self)
        self._expect_request()

    def bytesReceived(self, data: bytes) -> None:
        """Collect a request."""
        if self._closing or not data:
            return
        if self._bodies is not None:
            self._bodies.receive(data)
            return
        if self._answering is not None:
            # The client does not wait for its answer: hold what a reasonable one sends
            # and stop reading from any other.
            self._early += len(data)
            if self._early > _MAX_EARLY and not self._reading_paused:
                self._reading_paused = True
                cast(Any, self.transport).pauseProducing()
        self._http.receive_data(data)
        self._read_requests()

    def endOfInput(self) -> None:
        """A client that leaves before its answer does not want it any more."""
        self._close()

    def abort(self) -> None:
        """Break the connection off: there is no room for it, or no service."""
        self._closing = True
        self._cancel_deadline()
        cast(Any, self.transport).abortConnection()

    def connectionEnded(self, reason: Failure) -> None:
        """Stop working for a client that is gone."""
        self._closing = True
        self._connections.remove(self)
        self._cancel_deadline()
        if self._answering is not None:
            self._answering.cancel()
        if self._bodies is not None:
            self._bodies.lost(reason)

    # Reading

    def _read_requests(self) -> None:
        while self._answering is None and not self._closing and not self._successor:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as e:
                self._refuse(e.error_status_hint, f"This is not HTTP: {e}.")
                return
            if isinstance(event, h11.Request):
                self._head = event
                if self._elsewhere is not None and self._leave(event):
                    return
                if self._is_streamed(event):
                    self._answer()
                    return
            elif isinstance(event, h11.Data):
                self._body += bytes(event.data)
                if len(self._body) > MAX_BODY:
                    self._refuse(413, f"A body may have {MAX_BODY} bytes at most.")
                    return
            elif isinstance(event, h11.EndOfMessage):
                self._answer()
                return
            else:
                if self._http.they_are_waiting_for_100_continue:
                    self._send(h11.InformationalResponse(status_code=100, headers=[]))
                return

    def _leave(self, head: h11.Request) -> bool:
        """Give the connection away unanswered, if the request asks for that."""
        assert self._elsewhere is not None
        take = self._elsewhere(head.target.decode("ascii"))
        if take is None:
            return False
        self._closing = True
        self._cancel_deadline()
        self._connections.remove(self)
        rest, _ = self._http.trailing_data
        take(self, encoded_head(head) + rest)
        return True

    def _is_streamed(self, head: h11.Request) -> bool:
        """Tell whether the application answers before the body."""
        streams = getattr(self._application, "streams", None)
        path, _, _ = head.target.decode("ascii").partition("?")
        return streams is not None and streams(head.method.decode("ascii"), path)

    def _answer(self) -> None:
        assert self._head is not None and self.transport is not None
        # Only a whole request is a sign of life: bytes alone are cheap.
        self._connections.heard(self)
        self._cancel_deadline()
        path, _, query = self._head.target.decode("ascii").partition("?")
        request = Request(
            method=self._head.method.decode("ascii"),
            path=path,
            query=query,
            headers=_understood(self._head),
            body=self._body,
            peer=plain_peer(self.transport.getPeer()),
            secure=ISSLTransport.providedBy(self.transport),
            connection=self,
        )
        self._body = b""
        answering: Deferred[Reply]
        answering = maybeDeferred(cast(Any, self._application), request)
        self._answering = answering
        answering.addErrback(self._application_failed, request)
        answering.addCallback(self._reply)

    def _application_failed(self, failure: Failure, request: Request) -> Reply:
        if not (self._closing and failure.check(CancelledError)):
            self._log.failure(
                "{method} {path} could not be answered",
                failure,
                method=request.method,
                path=request.path,
            )
        return plain_response(500, "This service made a mistake; its log tells more.")

    # Writing

    def _reply(self, reply: Reply) -> None:
        self._answering = None
        self._early = 0
        if self._closing:
            self._discard(reply)
            return
        if self._reading_paused:
            self._reading_paused = False
            cast(Any, self.transport).resumeProducing()
        if isinstance(reply, SwitchProtocols):
            self._switch(reply)
            return
        if isinstance(reply, StreamBodies):
            self._stream(reply)
            return
        if self._http.their_state is h11.SEND_BODY:
            # The rest of the request does not matter any more.
            reply = attrs.evolve(reply, close=True)
        self._send_response(reply)
        if not (self._http.our_state is self._http.their_state is h11.DONE):
            self._close()
            return
        self._http.start_next_cycle()
        self._expect_request()
        self._reactor.callLater(0, self._read_requests)

    def _discard(self, reply: Reply) -> None:
        """Tell a protocol that was to take over that the client has gone."""
        if isinstance(reply, Response) or reply.protocol is None:
            return
        reply.protocol.makeConnection(cast(Any, self.transport))
        reply.protocol.connectionLost(Failure(ConnectionLost()))

    def _switch(self, reply: SwitchProtocols) -> None:
        headers = [("Connection", "Upgrade"), ("Upgrade", reply.token)]
        self._send(
            h11.InformationalResponse(
                status_code=101,
                headers=[*headers, *_HEADERS, *reply.headers],
                reason=b"Switching Protocols",
            )
        )
        leftover, _ = self._http.trailing_data
        self._connections.remove(self)
        self.switch_to(reply.protocol, leftover)

    def _stream(self, reply: StreamBodies) -> None:
        head = h11.Response(
            status_code=200,
            headers=[
                ("Content-Type", reply.content_type),
                *_HEADERS,
                *reply.headers,
            ],
            reason=b"OK",
        )
        self._connections.remove(self)
        if not reply.late:
            self._send(head)
        self._bodies = BodyStream(
            self._http, self.transport, reply.start, head if reply.late else None
        )
        self._bodies.read()

    def _send_response(self, response: Response) -> None:
        headers = [*_HEADERS, *response.headers]
        if response.status != HTTPStatus.NO_CONTENT:
            headers += [
                ("Content-Type", response.content_type),
                ("Content-Length", str(len(response.body))),
            ]
        if response.close:
            headers.append(("Connection", "close"))
        self._send(
            h11.Response(
                status_code=response.status,
                headers=headers,
                reason=reason_phrase(response.status),
            )
        )
        if self._head is None or self._head.method != b"HEAD":
            self._send(h11.Data(data=response.body))
        self._send(h11.EndOfMessage())

    def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            assert self.transport is not None
            self.transport.write(data)

    def _refuse(self, status: int, sentence: str) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send_response(Response(status, f"{sentence}\n".encode(), close=True))
        self._close()

    def _close(self) -> None:
        self._closing = True
        self._cancel_deadline()
        transport = cast(Any, self.transport)
        transport.loseConnection()
        # A client that does not read its answer does not keep the connection either.
        self._deadline = self._reactor.callLater(
            _CLOSE_TIMEOUT, transport.abortConnection
        )

    # Time

    def _expect_request(self) -> None:
        self._deadline = self._reactor.callLater(REQUEST_TIMEOUT, self._request_late)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def _request_late(self) -> None:
        self._deadline = None
        begun = self._http.their_state is not h11.IDLE or self._http.trailing_data[0]
        if begun:
            self._refuse(
                408, f"A request must arrive within {REQUEST_TIMEOUT:.0f} seconds."
            )
        else:
            self._close()


def _understood(head: h11.Request) -> HeaderList:
    """The fields of a request; HTTP/1.0 has no ``Upgrade`` (RFC 9110, 7.8)."""
    headers = tuple(head.headers)
    if head.http_version != b"1.0":
        return headers
    return tuple(field for field in headers if field[0] != b"upgrade")


def encoded_head(head: h11.Request) -> bytes:
    """Return the bytes that say the same as what has been read."""
    lines = [
        b"%b %b HTTP/%b" % (head.method, head.target, head.http_version),
        *(b"%b: %b" % field for field in head.headers.raw_items()),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def reason_phrase(status: int) -> bytes:
    """Return the words for a status, none for one that is not known."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


@implementer(IProtocolNegotiationFactory)
class HTTPServerFactory(Factory):
    """Makes an :class:`HTTPServerProtocol` for each connection.

    :param application: answers the requests.
    :param reactor: the clock of the time limits.
    :param capacity: connections at a time that are still HTTP; one more closes the
        one that has made no request for the longest time.
    :param elsewhere: tells which requests are not answered here.
    :ivar connections: those that are still HTTP, and how many had to make room.
    """

    noisy = False

    def __init__(
        self,
        application: Application,
        reactor: IReactorTime,
        *,
        capacity: int = MAX_CONNECTIONS,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._elsewhere = elsewhere
        self.application = application
        self._reactor = reactor
        # Each connection times itself, and not while the application takes its time.
        self.connections: SilenceTable[HTTPServerProtocol] = SilenceTable(
            reactor, None, capacity, HTTPServerProtocol.abort
        )

    def acceptableProtocols(self) -> list[bytes]:
        """Tell clients that would like another one what is spoken (RFC 7301)."""
        return [b"http/1.1"]

    def disconnect_all(self) -> None:
        """Break all connections that are still HTTP."""
        for connection in self.connections:
            connection.abort()

    def buildProtocol(self, addr: IAddress | None) -> HTTPServerProtocol:
        """Make the protocol of one connection."""
        protocol = HTTPServerProtocol(
            self.application, self._reactor, self.connections, self._elsewhere
        )
        protocol.factory = self
        return protocol
