"""An HTTP/1.1 client connection that can be given to another protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import attrs
import h11
from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    ISSLTransport,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from dwcloud.errors import ProxyRefused
from dwcloud.net.host_endpoint import host_endpoint
from dwcloud.net.http_bodies import BodyReceiver, BodyStream
from dwcloud.net.http_messages import HeaderList, header_value
from dwcloud.net.no_delay import send_at_once
from dwcloud.net.protocol_switch import SwitchingProtocol
from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = [
    "MAX_ANSWER",
    "MOST_RENEWALS",
    "Forwarding",
    "HTTPAnswer",
    "HTTPClientConnection",
    "ProofOutdated",
    "TLSEndpoint",
    "carrier_endpoint",
    "with_fresh_proofs",
]

MAX_ANSWER = 64 * 1024
"""Bytes of an answer's body, unless told otherwise; a longer one is an error."""

MOST_RENEWALS = 5
"""How often one request is repeated because a proxy asked for another proof."""

_MAX_HEAD = 16 * 1024


@implementer(IStreamClientEndpoint)
class TLSEndpoint:
    """TLS on the connections of another endpoint, on the clock of the reactor.

    ``wrapClientTLS`` of Twisted takes the clock of the global reactor.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        options: IOpenSSLClientConnectionCreator,
        endpoint: IStreamClientEndpoint,
    ) -> None:
        self._reactor = reactor
        self._options = options
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; the protocol gets the stream inside TLS."""
        factory = TLSMemoryBIOFactory(
            self._options, True, protocolFactory, self._reactor
        )
        connecting: Deferred[Any] = self._endpoint.connect(factory)
        return connecting.addCallback(lambda protocol: protocol.wrappedProtocol)


def carrier_endpoint(
    reactor: Any,
    url: ServiceURL,
    *,
    timeout: float = 20.0,
    interface: str = "",
    tls: IOpenSSLClientConnectionCreator | None = None,
    through: IStreamClientEndpoint | None = None,
) -> IStreamClientEndpoint:
    """Return the endpoint of the TCP or TLS connection to a URL.

    An https service is verified by the certificate authorities of the system. What
    goes through it does not depend on that: it is encrypted end to end anyway.

    :param timeout: seconds for the TCP connection.
    :param interface: local IP address to connect from, empty for any.
    :param tls: verifies the service in another way.
    :param through: leads to the service's port in another way, as through a proxy.
    """
    endpoint = through or host_endpoint(
        reactor, url.host, url.port, timeout=timeout, interface=interface
    )
    if not url.secure:
        return endpoint
    return TLSEndpoint(reactor, tls or optionsForClientTLS(url.host), endpoint)


@attrs.frozen
class HTTPAnswer:
    """What the server answered, whole.

    :ivar status: 101 means that the connection is no longer HTTP.
    """

    status: int
    headers: HeaderList
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The value of a header field, None without one."""
        return header_value(self.headers, name)

    @property
    def by_service(self) -> bool:
        """Whether a dwcloud service answered, not a proxy or a server in front."""
        return self.header("dwcloud") is not None

    @property
    def sentence(self) -> str:
        """The first line of the body where it is text, for error messages."""
        if not (self.header("content-type") or "").startswith("text/plain"):
            return ""
        lines = self.body[:300].decode("utf-8", "replace").strip().splitlines()
        return "".join(c for c in lines[0] if c.isprintable()) if lines else ""


class Forwarding(Protocol):
    """What a connection does differently whose requests a proxy passes on."""

    def __call__(self, method: str, path: str) -> tuple[str, HeaderList]:
        """Make of method and path the target and further fields (RFC 9112, 3.2.2)."""

    def keeps_open(self, status: int, headers: HeaderList) -> bool:
        """Whether the connection stays open after this answer."""

    def renews_proof(self, status: int, headers: HeaderList) -> bool:
        """Take an answer; True if its request is worth another try.

        It is if the proxy asked for another proof, and there is one now.
        """


class ProofOutdated(ProxyRefused):
    """A proxy passed no request on, but would with the proof that it has asked for.

    :ivar connection: on which it was sent.
    """

    def __init__(self, connection: HTTPClientConnection) -> None:
        super().__init__("the proxy does not take the proof any more", 407)
        self.connection = connection


@inlineCallbacks
def with_fresh_proofs(attempt: Callable[[], Deferred[Any]]) -> Any:
    """Do something by requests that a proxy may pass on.

    :param attempt: does it; called again if it failed by ProofOutdated, on another
        connection then, :data:`MOST_RENEWALS` times at most.
    :return: fires with what the last attempt comes to.
    """
    renewals = 0
    while True:
        try:
            result = yield attempt()
            return result
        except ProofOutdated as e:
            e.connection.disconnect()
            renewals += 1
            if renewals > MOST_RENEWALS:
                raise


class HTTPClientConnection(SwitchingProtocol):
    """A connection to an HTTP server: requests one after the other.

    :param authority: value of the ``Host`` field.
    :param forwarded: if it leads to a proxy that passes the requests on.
    :param most_answer: bytes of an answer's body; a longer one is an error.
    """

    def __init__(
        self,
        authority: str,
        forwarded: Forwarding | None = None,
        *,
        most_answer: int = MAX_ANSWER,
    ) -> None:
        self._authority = authority
        self._most_answer = most_answer
        self._forwarded = forwarded
        self._http = h11.Connection(h11.CLIENT, _MAX_HEAD)
        self._waiting: Deferred[HTTPAnswer] | None = None
        self._head: h11.Response | h11.InformationalResponse | None = None
        self._body = b""
        self._unasked = 0
        self._lost: Failure | None = None
        self._bodies: BodyStream | None = None
        self._securing: Deferred[HTTPClientConnection] | None = None

    def connectionMade(self) -> None:
        """Let no request wait for what was sent before."""
        send_at_once(self.transport)

    def secured(self) -> Deferred[HTTPClientConnection]:
        """Wait for the end of the TLS handshake, if there is one.

        What a proof of identity is bound to is not known before.

        :return: fires with this connection; fails as :meth:`request` does.
        """
        transport: Any = self.transport
        secure = ISSLTransport.providedBy(transport)
        if not secure or transport.getHandle().get_finished():
            return succeed(self)
        if self._lost is not None:
            return fail(self._lost)
        # Not all the class: Twisted's endpoints pass on only one of a protocol's
        # interfaces, and half-closing is the one that is needed without TLS.
        alsoProvides(self, IHandshakeListener)
        self._securing = Deferred(lambda _: self.abort())
        return self._securing

    def handshakeCompleted(self) -> None:
        """TLS has begun."""
        securing, self._securing = self._securing, None
        if securing is not None:
            securing.callback(self)

    @property
    def reusable(self) -> bool:
        """Whether another request can follow on this connection."""
        return (
            self._lost is None
            and self._waiting is None
            and self._http.our_state is h11.IDLE
            and (
                self._forwarded is None
                or self._head is None
                or self._forwarded.keeps_open(
                    self._head.status_code, tuple(self._head.headers)
                )
            )
        )

    def request(
        self, method: str, target: str, headers: HeaderList = (), body: bytes = b""
    ) -> Deferred[HTTPAnswer]:
        """Send a request.

        :return: fires with the answer; fails with a ConnectError's relative, of which
            ProofOutdated is one, or h11.RemoteProtocolError. Cancelling it breaks the
            connection.
        :raises LocalProtocolError: if the last request is not answered yet.
        """
        if body or method == "POST":
            length = str(len(body)).encode("ascii")
            headers = (*headers, (b"content-length", length))
        waiting = self._begin(method, target, headers)
        if self._waiting is waiting:
            if body:
                self._send(h11.Data(data=body))
            self._send(h11.EndOfMessage())
        return waiting

    def send_ahead(self, data: bytes) -> None:
        """Send what follows an upgrade before that is answered.

        If the answer is another one than 101 the connection is of no more use.
        """
        if self._waiting is not None:
            cast(Any, self.transport).write(data)

    def stream(
        self,
        method: str,
        target: str,
        headers: HeaderList,
        start: Callable[[BodyStream], BodyReceiver],
    ) -> Deferred[HTTPAnswer]:
        """Send a request of which a body has no end.

        :param start: called with the bodies when the head is sent; returns who
            receives the answer's. A body other than that of a GET is to be written.
        :return: fires with the answer's head if it is 200, else with all of it. Fails
            and is cancelled as that of :meth:`request`.
        :raises LocalProtocolError: if the last request is not answered yet.
        """
        waiting = self._begin(method, target, headers)
        if self._waiting is waiting:
            if method == "GET":
                self._send(h11.EndOfMessage())
            self._bodies = BodyStream(self._http, self.transport, start)
        return waiting

    def _begin(
        self, method: str, target: str, headers: HeaderList
    ) -> Deferred[HTTPAnswer]:
        """Send the head of a request."""
        if self._waiting is not None:
            raise LocalProtocolError("a request is being answered already")
        if not self.reusable:
            return fail(self._lost or Failure(ConnectionDone()))
        if self._forwarded is not None:
            target, more = self._forwarded(method, target)
            headers = (*headers, *more)
        self._head = None
        self._bodies = None
        self._body = b""
        host = (b"host", self._authority.encode("ascii"))
        self._send(h11.Request(method=method, target=target, headers=[host, *headers]))
        waiting: Deferred[HTTPAnswer] = Deferred(self._cancelled)
        self._waiting = waiting
        return waiting

    def _cancelled(self, waiting: Deferred[HTTPAnswer]) -> None:
        self._waiting = None
        self.abort()

    def upgrade_to(self, protocol: IProtocol) -> None:
        """Give the connection to ``protocol``, after 101 or an accepted CONNECT."""
        leftover, _ = self._http.trailing_data
        self.switch_to(protocol, leftover)

    def abort(self) -> None:
        """Break the connection off."""
        cast(Any, self.transport).abortConnection()

    def disconnect(self) -> None:
        """Close the connection."""
        cast(Any, self.transport).loseConnection()

    def bytesReceived(self, data: bytes) -> None:
        """Collect an answer."""
        if self._waiting is None and self._bodies is not None:
            self._bodies.receive(data)
            return
        if self._waiting is None:
            # Nothing was asked; what follows a 101 is taken over very soon.
            self._unasked += len(data)
            if self._unasked > MAX_ANSWER:
                self.abort()
                return
        try:
            self._http.receive_data(data)
            self._read_answer()
        except h11.RemoteProtocolError:
            self._fail(Failure())
            self.abort()

    def endOfInput(self) -> None:
        """The end of the stream may be the end of an answer."""
        self._end_of_stream()
        self.disconnect()

    def connectionEnded(self, reason: Failure) -> None:
        """No answer comes any more."""
        self._lost = reason
        if reason.check(ConnectionDone):
            self._end_of_stream()
        self._fail(reason)
        securing, self._securing = self._securing, None
        if securing is not None:
            securing.errback(reason)
        if self._bodies is not None:
            self._bodies.lost(reason)

    def _end_of_stream(self) -> None:
        """Deliver an answer that lasts until the end; any other one is cut off."""
        if self._waiting is None:
            if self._bodies is not None:
                self._bodies.receive(b"")
            return
        try:
            self._http.receive_data(b"")
            self._read_answer()
        except h11.RemoteProtocolError:
            self._fail(
                Failure(ConnectionLost("the connection was closed before the answer"))
            )

    def _read_answer(self) -> None:
        while self._waiting is not None:
            event = self._http.next_event()
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    self._head = event
                    self._deliver()
            elif isinstance(event, h11.Response):
                self._head = event
                if self._bodies is not None and event.status_code == 200:
                    # The rest is for whom it streams to.
                    self._deliver()
                    self._bodies.read()
                    return
                if self._http.their_state is h11.SWITCHED_PROTOCOL:
                    # The answer to CONNECT; what follows is not HTTP.
                    self._deliver()
            elif isinstance(event, h11.Data):
                self._body += bytes(event.data)
                if len(self._body) > self._most_answer:
                    raise h11.RemoteProtocolError(
                        f"the answer has more than {self._most_answer} bytes"
                    )
            elif isinstance(event, h11.EndOfMessage):
                if self._http.our_state is self._http.their_state is h11.DONE:
                    self._http.start_next_cycle()
                self._deliver()
            else:
                return

    def _deliver(self) -> None:
        assert self._head is not None and self._waiting is not None
        if self._head.status_code != 200:
            self._bodies = None
        answer = HTTPAnswer(
            self._head.status_code, tuple(self._head.headers), self._body
        )
        waiting, self._waiting = self._waiting, None
        if self._forwarded is not None and self._forwarded.renews_proof(
            answer.status, answer.headers
        ):
            waiting.errback(ProofOutdated(self))
        else:
            waiting.callback(answer)

    def _fail(self, failure: Failure) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.errback(failure)

    def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            assert self.transport is not None
            self.transport.write(data)
