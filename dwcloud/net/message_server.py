"""The server's side of ``finite_messages``, in front of any HTTP application."""

from __future__ import annotations

import re
from typing import Any, cast
from urllib.parse import parse_qsl

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from dwcloud.net.http_messages import (
    Application,
    Reply,
    Request,
    Response,
    SwitchProtocols,
    plain_response,
)
from dwcloud.net.message_transport import MessageTransport
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.tunnelling.finite_messages import HOLD, MessageServer
from dwcloud.protocol.tunnelling.methods import FINITE_MESSAGES

__all__ = ["MessageTunnels"]

_MOST_TUNNELS = 20_000
_KEEP_ENDED = 30.0
"""Seconds in which a client can learn that its tunnel has ended."""
_ID = re.compile(r"[0-9a-f]{32}")
_NUMBER = re.compile(r"[0-9]{1,15}")


class _StandInConnection:
    """Takes the place of the connection for what an application binds to one.

    Requests of one tunnel come on any of a proxy's connections.
    """

    def __init__(self, transport: Any) -> None:
        self.transport = transport


class _Tunnel:
    """One tunnel: its end of the stream, and the GETs that wait."""

    def __init__(
        self, owner: MessageTunnels, reactor: IReactorTime, request: Request
    ) -> None:
        self.path = request.path
        self._owner = owner
        self._reactor = reactor
        self.core = MessageServer(now=reactor.seconds())
        below = cast(Any, request.connection.transport)
        self.transport = MessageTransport(
            reactor, self.core, self.act, below.getHost(), below.getPeer()
        )
        self._waiting: dict[int, list[Deferred[Reply]]] = {}
        self._timer: IDelayedCall | None = None
        self._acting = False
        self._ended = False

    def post(self, body: bytes) -> Reply:
        """Answer a POST."""
        answer = self.core.receive_post(body, now=self._reactor.seconds())
        self.act()
        return _message(answer)

    def get(self, number: int, body: bytes, hold: float) -> Deferred[Reply]:
        """Answer a GET, later if there is nothing to say."""
        self.core.receive_get(number, body, hold, now=self._reactor.seconds())
        answer: Deferred[Reply] = Deferred(lambda d: self._left(number, d))
        self._waiting.setdefault(number, []).append(answer)
        self.act()
        return answer

    def _left(self, number: int, answer: Deferred[Reply]) -> None:
        waiting = self._waiting.get(number, [])
        if answer in waiting:
            waiting.remove(answer)
        if not waiting:
            self._waiting.pop(number, None)
            self.core.forget_get(number)

    def act(self) -> None:
        """Deliver, answer, and look again in time."""
        if self._acting:
            return
        self._acting = True
        self.transport.deliver()
        self._acting = False
        now = self._reactor.seconds()
        for number, body in self.core.answers(now=now):
            for answer in self._waiting.pop(number, []):
                answer.callback(_message(body))
        if self._ended:
            return
        self._cancel_timer()
        if self.core.lost or self.core.closed:
            self._ended = True
            self._timer = self._reactor.callLater(_KEEP_ENDED, self._owner.forget, self)
            return
        delay = max(0.0, self.core.next_timer() - now)
        self._timer = self._reactor.callLater(delay, self._timed_out)

    def stop(self) -> None:
        """Look again no more."""
        self._ended = True
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _timed_out(self) -> None:
        self._timer = None
        self.core.handle_timer(now=self._reactor.seconds())
        self.act()


class MessageTunnels:
    """Serves ``.../finite_messages`` beside every ``.../upgrade`` of an application.

    A request that opens a tunnel is shown to the application as one that upgrades its
    connection; the protocol that it answers with gets the tunnel's stream.
    """

    def __init__(self, reactor: IReactorTime, application: Application) -> None:
        self._reactor = reactor
        self._application = application
        self._tunnels: dict[str, _Tunnel] = {}
        self._opened: dict[str, Response] = {}
        self._opening: dict[str, list[Deferred[Reply]]] = {}
        self._asked: dict[str, _StandInConnection] = {}

    def __call__(self, request: Request) -> Reply | Deferred[Reply]:
        """Answer a request."""
        if not request.path.endswith(f"/{FINITE_MESSAGES}"):
            return self._application(request)
        query = dict(parse_qsl(request.query))
        tunnel_id, number_text = query.get("tunnel", ""), query.get("n", "")
        if not (_ID.fullmatch(tunnel_id) and _NUMBER.fullmatch(number_text)):
            return plain_response(400, "This resource is for tunnels.")
        number = int(number_text)
        try:
            if number == 0 and request.method == "POST":
                return self._open(tunnel_id, request)
            tunnel = self._tunnels.get(tunnel_id)
            if tunnel is None or tunnel.path != request.path:
                return plain_response(410, "There is no such tunnel any more.")
            if request.method == "POST":
                return tunnel.post(request.body)
            body = bytes.fromhex(query.get("m", ""))
            return tunnel.get(number, body, min(float(query.get("hold", HOLD)), HOLD))
        except (RemoteProtocolError, ValueError) as e:
            return plain_response(400, f"That is not a message of a tunnel: {e}.")

    def stop(self) -> None:
        """Serve no longer; the connections below are closed by their owner."""
        tunnels = list(self._tunnels.values())
        self._tunnels.clear()
        self._opened.clear()
        for tunnel in tunnels:
            tunnel.stop()

    def forget(self, tunnel: _Tunnel) -> None:
        """Forget a tunnel that has ended."""
        for tunnel_id, each in list(self._tunnels.items()):
            if each is tunnel:
                del self._tunnels[tunnel_id], self._opened[tunnel_id]

    def _open(self, tunnel_id: str, request: Request) -> Reply | Deferred[Reply]:
        if tunnel_id in self._tunnels:
            # The answer to the first request was lost.
            return attrs.evolve(self._opened[tunnel_id], body=request.body)
        if len(self._tunnels) >= _MOST_TUNNELS:
            return plain_response(503, "There are too many tunnels here now.")
        waiting = self._opening.get(tunnel_id)
        answer: Deferred[Reply]
        if waiting is not None:
            answer = Deferred(waiting.remove)
            waiting.append(answer)
            return answer
        waiting = self._opening[tunnel_id] = []
        inner = maybeDeferred(
            cast(Any, self._application), self._inner(tunnel_id, request)
        )

        def left(answer: Deferred[Reply]) -> None:
            waiting.remove(answer)
            if not waiting:
                inner.cancel()

        answer = Deferred(left)
        waiting.append(answer)
        inner.addCallback(self._decided, tunnel_id, request)
        inner.addBoth(self._tell, tunnel_id)
        return answer

    def _inner(self, tunnel_id: str, request: Request) -> Request:
        """The request as if it came to upgrade a connection."""
        below = request.connection.transport
        connection = self._asked.pop(tunnel_id, None) or _StandInConnection(below)
        connection.transport = below
        # A challenge to the first request is answered by the next one.
        self._asked[tunnel_id] = connection
        while len(self._asked) > 1000:
            del self._asked[next(iter(self._asked))]
        token = request.header("dwcloud-upgrade") or ""
        return attrs.evolve(
            request,
            method="GET",
            path=request.path.removesuffix(FINITE_MESSAGES) + "upgrade",
            query="",
            headers=(
                *(
                    h
                    for h in request.headers
                    if h[0] not in (b"connection", b"upgrade")
                ),
                (b"connection", b"upgrade"),
                (b"upgrade", token.encode("latin-1")),
            ),
            body=b"",
            connection=cast(Any, connection),
        )

    def _decided(self, reply: Reply, tunnel_id: str, request: Request) -> Reply:
        if not isinstance(reply, SwitchProtocols):
            return reply
        self._asked.pop(tunnel_id, None)
        tunnel = self._tunnels[tunnel_id] = _Tunnel(self, self._reactor, request)
        answer = attrs.evolve(_message(request.body), headers=reply.headers)
        self._opened[tunnel_id] = answer
        tunnel.transport.connect(reply.protocol)
        return answer

    def _tell(self, result: Reply | Failure, tunnel_id: str) -> None:
        for answer in self._opening.pop(tunnel_id):
            if isinstance(result, Failure):
                answer.errback(result)
            else:
                answer.callback(result)


def _message(body: bytes) -> Response:
    return Response(200, body, "application/octet-stream")
