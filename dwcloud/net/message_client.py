"""The client's side of ``finite_messages``: a pool of connections and a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IReactorTime
from twisted.python.failure import Failure

from dwcloud.errors import TunnelRefused
from dwcloud.net.channel_binding import channel_binding
from dwcloud.net.http_client import (
    MOST_RENEWALS,
    HTTPAnswer,
    HTTPClientConnection,
    ProofOutdated,
)
from dwcloud.net.message_transport import MessageTransport
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.tunnelling.finite_messages import MessageClient, PlannedRequest
from dwcloud.protocol.tunnelling.methods import FINITE_MESSAGES, HeaderList, Opening

__all__ = ["MessageTunnel", "open_messages"]

_FIELDS: HeaderList = (
    (b"cache-control", b"no-store"),
    (b"accept", b"application/octet-stream"),
)
_OCTETS: HeaderList = ((b"content-type", b"application/octet-stream"),)


_OPENING_TRIES = 3
"""How often the first request is sent if its connection is cut before the answer."""


class MessageTunnel:
    """A tunnel that is open.

    :param connect: makes another connection to the service.
    :param first: the connection that opened it.
    :param answer: the answer that opened it.
    """

    method = FINITE_MESSAGES

    def __init__(
        self,
        reactor: IReactorTime,
        connect: Callable[[], Deferred[HTTPClientConnection]],
        target: str,
        first: HTTPClientConnection,
        answer: HTTPAnswer,
    ) -> None:
        self._reactor = reactor
        self._connect = connect
        self._target = target
        self._idle = [first]
        self._active: dict[int, tuple[bool, Deferred[Any]]] = {}
        self._timer: IDelayedCall | None = None
        self._acting = False
        self.answer = answer
        self._core = MessageClient()
        below = cast(Any, first.transport)
        self._transport = MessageTransport(
            reactor, self._core, self._act, below.getHost(), below.getPeer()
        )

    @property
    def peer(self) -> IAddress:
        """The far end of the connections."""
        return self._transport.getPeer()

    def connect(self, protocol: IProtocol) -> None:
        """Give the byte stream to ``protocol``."""
        self._transport.connect(protocol)

    def disconnect(self) -> None:
        """Close it unused."""
        self._transport.abortConnection()

    def _act(self) -> None:
        """Deliver, request, and look again in time."""
        if self._acting:
            return
        self._acting = True
        self._transport.deliver()
        now = self._reactor.seconds()
        for number in self._core.expired(now=now):
            self._core.fail(number, "no answer came in time", now=now)
            active = self._active.pop(number, None)
            if active is not None:
                active[1].cancel()
        for planned in self._core.requests(now=now):
            self._start(planned)
        self._acting = False
        self._arm(now)
        if self._core.lost or self._core.closed:
            self._end()

    def _arm(self, now: float) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        at = self._core.next_timer()
        if at is not None and not self._core.lost:
            self._timer = self._reactor.callLater(max(at - now, 0.0), self._act)

    def _end(self) -> None:
        """Let the last words be said, and close what is not needed for them."""
        for number, (is_post, asking) in list(self._active.items()):
            if not is_post:
                del self._active[number]
                asking.cancel()
        if not self._active:
            idle, self._idle = self._idle, []
            for connection in idle:
                connection.disconnect()
        self._transport.deliver()

    def _start(self, planned: PlannedRequest) -> None:
        asking: Deferred[Any] = self._ask(planned)
        self._active[planned.number] = (planned.is_post, asking)
        asking.addCallbacks(
            self._answered,
            self._failed,
            callbackArgs=(planned.number,),
            errbackArgs=(planned.number,),
        )

    @inlineCallbacks
    def _ask(self, planned: PlannedRequest) -> Any:
        """Send a request, again if a proxy wants another proof."""
        renewals = 0
        while True:
            try:
                answer = yield self._ask_once(planned)
                return answer
            except ProofOutdated:
                # The proof is new, and the connection is the same if it was kept: so
                # no other request overtakes this one on another connection.
                renewals += 1
                if renewals > MOST_RENEWALS:
                    raise

    @inlineCallbacks
    def _ask_once(self, planned: PlannedRequest) -> Any:
        connection: HTTPClientConnection | None = None
        while self._idle and (connection is None or not connection.reusable):
            connection = self._idle.pop()
        if connection is None or not connection.reusable:
            connection = yield self._connect()
        target = f"{self._target}&n={planned.number}"
        try:
            if planned.is_post:
                answer = yield connection.request(
                    "POST", target, _FIELDS + _OCTETS, planned.body
                )
            else:
                target += f"&hold={planned.hold:.3f}&m={planned.body.hex()}"
                answer = yield connection.request("GET", target, _FIELDS)
        finally:
            if connection.reusable:
                self._idle.append(connection)
            elif connection.transport is not None:
                connection.disconnect()
        return answer

    def _answered(self, answer: HTTPAnswer, number: int) -> None:
        if self._active.pop(number, None) is None:
            return
        now = self._reactor.seconds()
        self._core.receive_answer(number, answer.status, answer.body, now=now)
        self._reactor.callLater(0, self._act)

    def _failed(self, reason: Failure, number: int) -> None:
        if self._active.pop(number, None) is None:
            return  # given up
        now = self._reactor.seconds()
        self._core.fail(number, reason.getErrorMessage(), now=now)
        self._reactor.callLater(0, self._act)


@inlineCallbacks
def open_messages(
    reactor: IReactorTime,
    connect: Callable[[], Deferred[HTTPClientConnection]],
    opening: Opening,
    random_bytes: Callable[[int], bytes],
    authenticate: Callable[[HTTPAnswer, bytes], HeaderList] | None = None,
    connection: HTTPClientConnection | None = None,
) -> Any:
    """Open a tunnel of finite messages.

    It counts as open when the server has sent back the very bytes that went there.

    :param connect: makes a connection to the service.
    :param authenticate: answers one 401; without it a 401 is a refusal.
    :param connection: one that is open already.
    :return: a Deferred of a :class:`MessageTunnel`; fails with TunnelRefused.
    """
    target = opening.target(FINITE_MESSAGES)
    probe = random_bytes(1024)
    token = (b"dwcloud-upgrade", opening.token.encode("ascii"))
    if connection is None or not connection.reusable:
        connection = yield connect()
    tries = _OPENING_TRIES
    while True:
        headers = (*_FIELDS, *_OCTETS, token, *opening.headers)
        try:
            answer = yield connection.request("POST", f"{target}&n=0", headers, probe)
        except (ConnectionLost, ConnectionDone):
            # The service knows the tunnel, if it has got so far, and answers again.
            tries -= 1
            if not tries:
                raise
            connection = yield connect()
            continue
        if answer.status != 401 or authenticate is None:
            break
        if not connection.reusable:
            connection.disconnect()
            connection = yield connect()
        try:
            # The proof belongs to the connection on which it goes.
            binding = channel_binding(cast(Any, connection.transport))
            opening = opening.proven(authenticate(answer, binding))
        except RemoteProtocolError as e:
            connection.disconnect()
            raise TunnelRefused(
                answer.sentence or str(e), 401, by_service=answer.by_service
            ) from e
        authenticate = None
    if answer.status != 200:
        connection.disconnect()
        what = answer.sentence or f"the answer was HTTP status {answer.status}"
        raise TunnelRefused(what, answer.status, by_service=answer.by_service)
    if answer.body != probe:
        connection.disconnect()
        raise TunnelRefused("the answer is not that of a tunnel", 0)
    return MessageTunnel(reactor, connect, target, connection, answer)
