"""The connection of a browser: HTTP/1.1, taken apart and put together again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import h11
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from dwcloud.net.dual_stack import plain_peer
from dwcloud.net.http_messages import Response
from dwcloud.net.http_server import encoded_head, reason_phrase
from dwcloud.net.liveness import watch_busy_connection
from dwcloud.net.protocol_switch import SwitchingProtocol
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.gateway.requests import BrowserRequest, read_request
from dwcloud.relay.gateway.exchange import Exchange
from dwcloud.relay.gateway.pages import Trouble
from dwcloud.relay.gateway.service_connection import ServiceConnection

if TYPE_CHECKING:
    from dwcloud.relay.gateway.gateway import Gateway

__all__ = ["KEEP_ALIVE", "MAX_HEAD", "REQUEST_TIMEOUT", "BrowserConnection"]

MAX_HEAD = 32 * 1024
"""Bytes of the head of a request, cookies included; more gets 431."""

REQUEST_TIMEOUT = 15.0
"""Seconds for the head of a request, from its first byte or from the connection."""

KEEP_ALIVE = 75.0
"""Seconds for which a connection is kept without a request."""

_CLOSE_TIMEOUT = 5.0
_MAX_EARLY = 64 * 1024


class BrowserConnection(SwitchingProtocol):
    """Requests in, answers of the server or of the gateway out."""

    def __init__(self, gateway: Gateway, reactor: IReactorTime) -> None:
        self._gateway = gateway
        self._reactor = reactor
        self._http = h11.Connection(h11.SERVER, MAX_HEAD)
        self._request: BrowserRequest | None = None
        self._exchange: Exchange | None = None
        self._kept: ServiceConnection | None = None
        self._deadline: IDelayedCall | None = None
        self._early = 0
        self._is_paused = False
        self._is_closing = False
        self._is_first = True

    # The connection

    def connectionMade(self) -> None:
        """Give the browser its time for the first request."""
        watch_busy_connection(self.transport)
        self._gateway.connections.add(self)
        self._wait(REQUEST_TIMEOUT)

    def bytesReceived(self, data: bytes) -> None:
        """Take a piece of a request."""
        if self._is_closing or not data:
            return
        if self._exchange is not None and not self._takes_body:
            # It does not wait for its answer: hold what a reasonable one sends.
            self._early += len(data)
            if self._early > _MAX_EARLY:
                self._pause()
        elif self._exchange is None and not self._http.trailing_data[0]:
            self._wait(REQUEST_TIMEOUT)
        try:
            self._http.receive_data(data)
        except h11.RemoteProtocolError:
            self.abort()
            return
        self._read()

    @property
    def _takes_body(self) -> bool:
        return (
            self._exchange is not None
            and self._exchange.is_ready
            and not self.has_whole_request
        )

    @property
    def has_whole_request(self) -> bool:
        """Whether nothing of the request is missing any more."""
        return self._http.their_state is not h11.SEND_BODY

    def endOfInput(self) -> None:
        """A browser that leaves before its answer does not want it any more."""
        self.abort()

    def connectionEnded(self, reason: Failure) -> None:
        """The browser has left."""
        self._is_closing = True
        self._stop_waiting()
        self._gateway.connections.remove(self)
        self._drop_service()
        if self._exchange is not None:
            self._exchange.browser_lost()

    def abort(self) -> None:
        """Break the connection off."""
        self._is_closing = True
        self._stop_waiting()
        cast(Any, self.transport).abortConnection()

    def cut_off(self) -> None:
        """End an answer that will never be whole, so that it does not look so."""
        if self._http.their_http_version == b"1.1":
            # Its length or its last chunk are missing.
            self._close()
        else:
            self.abort()

    def _close(self) -> None:
        self._is_closing = True
        self._drop_service()
        transport = cast(Any, self.transport)
        transport.loseConnection()
        self._wait(_CLOSE_TIMEOUT, transport.abortConnection)

    def _drop_service(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.leave()

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            cast(Any, self.transport).pauseProducing()

    def _resume(self) -> None:
        self._early = 0
        if self._is_paused:
            self._is_paused = False
            cast(Any, self.transport).resumeProducing()

    # Time

    def _wait(self, seconds: float, then: Any = None) -> None:
        self._stop_waiting()
        self._deadline = self._reactor.callLater(seconds, then or self._request_late)

    def _stop_waiting(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def _request_late(self) -> None:
        self._deadline = None
        if self._http.trailing_data[0]:
            late = f"A request must arrive within {REQUEST_TIMEOUT:.0f} seconds."
            self.refuse(Trouble(408, "Too slow", late))
        else:
            self._close()

    # Requests

    def _read(self) -> None:
        while not self._is_closing and self._successor is None:
            if self._exchange is not None and not self._takes_body:
                return
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as e:
                self._malformed(e)
                return
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data) and self._exchange is not None:
                self._exchange.body_continued(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and self._exchange is not None:
                self._exchange.body_ended()
            else:
                return

    def read_body(self) -> None:
        """Give the exchange the body, which may have come already."""
        if self._http.they_are_waiting_for_100_continue:
            self.send(h11.InformationalResponse(status_code=100, headers=[]))
        self._resume()
        self._read()

    def _malformed(self, error: h11.RemoteProtocolError) -> None:
        if self._exchange is not None:
            # Within a body: what has gone on of it cannot be taken back.
            self._exchange.browser_lost()
            self.abort()
            return
        self._request = None
        status = error.error_status_hint
        self.refuse(Trouble(status, "This is not HTTP", f"{error}."))

    def _begin(self, head: h11.Request) -> None:
        self._stop_waiting()
        is_first, self._is_first = self._is_first, False
        self._request = None
        try:
            request = self._request = read_request(head)
            if not self._gateway.concerns(request):
                if is_first:
                    self._leave(head)
                    return
                raise RemoteProtocolError("this connection is for another host", 421)
            self._gateway.connections.heard(self)
            decided = self._gateway.decide(request)
        except RemoteProtocolError as e:
            sentence = f"{str(e)[:1].upper()}{str(e)[1:]}."
            self.refuse(
                Trouble(e.code or 400, "This request cannot be served", sentence)
            )
            return
        except Trouble as e:
            self.refuse(e)
            return
        if isinstance(decided, Response):
            self.answer(decided)
            return
        kept, self._kept = self._kept, None
        if kept is not None and not (kept.session is decided and kept.is_usable):
            kept.leave()
            kept = None
        self._gateway.connections.remove(self)
        self._exchange = Exchange(
            self._gateway, self, request, decided, self._address()
        )
        self._exchange.begin(kept)

    def _address(self) -> Address:
        peer = plain_peer(cast(Any, self.transport).getPeer())
        return Address(getattr(peer, "host", "0.0.0.0"), getattr(peer, "port", 0))

    def _leave(self, head: h11.Request) -> None:
        """Give the connection to the relay: it was asked for by its own name."""
        self._gateway.connections.remove(self)
        rest, _ = self._http.trailing_data
        self.switch_to(self._gateway.relay_protocol(), encoded_head(head) + rest)

    # Answers

    def send(self, event: h11.Event) -> None:
        """Send a piece of an answer."""
        data = self._http.send(event)
        if data and not self._is_closing:
            cast(Any, self.transport).write(data)

    def refuse(self, trouble: Trouble) -> None:
        """Answer here that there is no answer, and why."""
        self._gateway.statistics.requests[trouble.result] += 1
        self.answer(trouble.response(self._request))

    def answer(self, response: Response) -> None:
        """Answer here, instead of the server."""
        self._exchange = None
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.abort()
            return
        if self._request is not None and not self._request.has_body:
            self._read_end()
        # After a request that wants to switch protocols it is neither.
        is_last = self._http.their_state in (
            h11.SEND_BODY,
            h11.IDLE,
            h11.MUST_CLOSE,
            h11.CLOSED,
            h11.ERROR,
        )
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            *response.headers,
        ]
        if is_last:
            headers.append(("Connection", "close"))
        self.send(
            h11.Response(
                status_code=response.status,
                headers=headers,
                reason=reason_phrase(response.status),
            )
        )
        if self._request is None or self._request.method != "HEAD":
            self.send(h11.Data(data=response.body))
        self.send(h11.EndOfMessage())
        self.exchange_ended(None)

    def _read_end(self) -> None:
        """Take the end of a request without a body, unless that was done."""
        if self._http.their_state is h11.SEND_BODY:
            self._http.next_event()

    def exchange_ended(self, kept: ServiceConnection | None) -> None:
        """The answer is whole: the next request may come.

        :param kept: the stream to the server, if it can be used again.
        """
        self._exchange = None
        self._kept = kept
        if self._is_closing:
            return
        if not (self._http.our_state is self._http.their_state is h11.DONE):
            self._close()
            return
        self._http.start_next_cycle()
        self._resume()
        self._gateway.connections.add(self)
        self._wait(KEEP_ALIVE)
        self._reactor.callLater(0, self._read)

    def switch(self, successor: Any) -> None:
        """Give the connection to another protocol."""
        self._exchange = None
        self._stop_waiting()
        self._gateway.connections.remove(self)
        self._resume()
        self.switch_to(successor, self._http.trailing_data[0])
