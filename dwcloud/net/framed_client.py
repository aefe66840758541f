"""The client's side of the methods whose stream is in frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import h11
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IAddress, IProtocol, IReactorTime
from twisted.python.failure import Failure

from dwcloud.errors import TunnelRefused
from dwcloud.net.channel_binding import channel_binding
from dwcloud.net.framed_connection import FramedConnection, WebSocketEnd
from dwcloud.net.http_bodies import BodyReceiver, BodyStream
from dwcloud.net.http_client import HTTPAnswer, HTTPClientConnection, ProofOutdated
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.tunnelling.framed_stream import LengthFraming
from dwcloud.protocol.tunnelling.methods import (
    HeaderList,
    Opening,
    RequestHead,
    TunnellingMethod,
)

__all__ = ["FramedTunnel", "WebSocketTunnel", "open_bodies"]

Connect = Callable[[], "Deferred[HTTPClientConnection]"]


class FramedTunnel:
    """A tunnel of endless bodies that is open.

    :ivar answer: the answer that opened it.
    :ivar outdated: what broke it, if it is that a proxy wants another proof.
    """

    def __init__(self, answer: HTTPAnswer, stream: FramedConnection) -> None:
        self.answer = answer
        self.outdated: ProofOutdated | None = None
        self._stream = stream

    @property
    def peer(self) -> IAddress:
        """The far end of the connection that brings the stream down."""
        return self._stream.transport.getPeer()

    def connect(self, protocol: IProtocol) -> None:
        """Give the byte stream to ``protocol``."""
        self._stream.connect(protocol)

    def disconnect(self) -> None:
        """Close it unused."""
        self._stream.break_off("nobody wanted the tunnel")

    def watch(self, answering: Deferred[HTTPAnswer]) -> None:
        """Break the stream when the request that goes up is refused."""

        def answered(answer: HTTPAnswer) -> None:
            if answer.status != 200:
                what = answer.sentence or f"the answer was HTTP status {answer.status}"
                self._stream.break_off(f"the second request was refused: {what}")

        def failed(reason: Failure) -> None:
            if isinstance(reason.value, ProofOutdated):
                self.outdated = reason.value
            self._stream.break_off(reason.getErrorMessage())

        answering.addCallbacks(answered, failed)


class WebSocketTunnel:
    """A WebSocket that is open.

    :ivar answer: the answer that opened it.
    """

    def __init__(
        self, reactor: IReactorTime, answer: HTTPAnswer, connection: Any
    ) -> None:
        self._reactor = reactor
        self.answer = answer
        self._connection: HTTPClientConnection = connection

    @property
    def peer(self) -> IAddress:
        """The far end of the connection."""
        return cast(IAddress, cast(Any, self._connection.transport).getPeer())

    def connect(self, protocol: IProtocol) -> None:
        """Give the byte stream to ``protocol``."""
        self._connection.upgrade_to(WebSocketEnd(self._reactor, protocol, client=True))

    def disconnect(self) -> None:
        """Close it unused."""
        self._connection.disconnect()


class _Exchange:
    """One request whose body or whose answer has no end."""

    def __init__(self, reactor: IReactorTime, head: RequestHead) -> None:
        self._reactor = reactor
        self._head = head
        self.stream: FramedConnection | None = None

    def send(
        self, connection: HTTPClientConnection, stream: FramedConnection | None = None
    ) -> Deferred[HTTPAnswer]:
        """Send it.

        :param stream: which goes up by it; without one a new stream begins.
        """
        self.stream = stream

        def start(bodies: BodyStream) -> BodyReceiver:
            if self.stream is None:
                self.stream = FramedConnection(
                    self._reactor, LengthFraming(), bodies, closes_last=True
                )
                self.stream.read_from(bodies)
            if self._head.method == "POST":
                self.stream.write_to(bodies)
                self.stream.pad()
            return self.stream if stream is None else _Up(self.stream)

        return connection.stream(
            self._head.method, self._head.target, self._head.headers, start
        )

    def give_up(self, connection: HTTPClientConnection) -> None:
        """Nothing comes of it."""
        if self.stream is not None:
            self.stream.break_off("the request was refused")
        connection.disconnect()


class _Up:
    """The connection of the POST that goes up: its answer comes at the end."""

    def __init__(self, stream: FramedConnection) -> None:
        self._stream = stream

    def dataReceived(self, data: bytes) -> None:
        """The answer has no body."""

    def bodyEnded(self) -> None:
        """The service ended it."""
        self._stream.bodyEnded()

    def carrierLost(self, reason: Any) -> None:
        """Nothing can be sent any more."""
        self._stream.carrierLost(reason)


@inlineCallbacks
def open_bodies(
    reactor: IReactorTime,
    connect: Connect,
    opening: Opening,
    method: TunnellingMethod,
    authenticate: Callable[[HTTPAnswer, bytes], HeaderList] | None = None,
    connection: HTTPClientConnection | None = None,
) -> Any:
    """Open a tunnel of endless bodies.

    :param connect: makes a connection to the service.
    :param authenticate: answers one 401; without it a 401 is a refusal.
    :param connection: one that is open already.
    :return: a Deferred of a :class:`FramedTunnel`; fails with TunnelRefused or another
        relative of ConnectError.
    """
    if connection is None or not connection.reusable:
        connection = yield connect()
    while True:
        first, *others = method.requests(opening)
        exchange = _Exchange(reactor, first)
        try:
            answer = yield exchange.send(connection)
            if answer.status == 401 and authenticate is not None:
                exchange.give_up(connection)
                connection = yield connect()
                binding = channel_binding(cast(Any, connection.transport))
                proof = authenticate(answer, binding)
                opening = opening.proven(proof)
                authenticate = None
                continue
            method.check_answer(opening, 0, answer.status, answer.headers)
        except ProofOutdated:
            exchange.give_up(connection)
            raise
        except RemoteProtocolError as e:
            exchange.give_up(connection)
            raise TunnelRefused(
                answer.sentence or str(e), answer.status, by_service=answer.by_service
            ) from e
        except h11.RemoteProtocolError as e:
            raise TunnelRefused(f"the answer is not HTTP: {e}", 0) from e
        break
    stream = exchange.stream
    assert stream is not None
    tunnel = FramedTunnel(answer, stream)
    for head in others:
        try:
            second = yield connect()
        except Exception:
            stream.break_off("there was no second connection")
            raise
        tunnel.watch(_Exchange(reactor, head).send(second, stream))
    return tunnel
