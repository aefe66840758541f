"""The server's side of ``finite_messages``, in front of any HTTP application."""

from __future__ import annotations

import re
from typing import Any, cast
from urllib.parse import parse_qsl

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime
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
from dwcloud.net.silence import SilenceTable
from dwcloud.net.tunnel_requests import as_upgrade, leads_nowhere, tunnel_id_of
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.tunnelling.finite_messages import HOLD, MessageServer
from dwcloud.protocol.tunnelling.methods import FINITE_MESSAGES

__all__ = ["MessageTunnels"]

_MOST_TUNNELS = 20_000
_MOST_PROBES = 1000
"""Tunnels at a time that lead nowhere; they take nobody else's room."""
_PROBE_LIFE = 5.0
"""Seconds after which one of them is forgotten."""
_MOST_UNPROVEN = 1000
"""Tunnels at a time of which no request followed the one that opened them."""
_SECOND_REQUEST = 10.0
"""Seconds for it to follow."""
_KEEP_ENDED = 30.0
"""Seconds in which a client can learn that its tunnel has ended."""
_NUMBER = re.compile(r"[0-9]{1,15}")


class _Tunnel:
    """One tunnel: its end of the stream, and the GETs that wait.

    :ivar inside: gets the stream when the client has shown that it has the answer to
        its first request; None from then on.
    :ivar ended: whether nothing more goes through it.
    """

    def __init__(
        self,
        owner: MessageTunnels,
        reactor: IReactorTime,
        tunnel_id: str,
        request: Request,
    ) -> None:
        self.tunnel_id = tunnel_id
        self.path = request.path
        self._owner = owner
        self._reactor = reactor
        self.core = MessageServer(now=reactor.seconds())
        below = cast(Any, request.connection.transport)
        self.transport = MessageTransport(
            reactor, self.core, self.act, below.getHost(), below.getPeer()
        )
        self.inside: IProtocol | None = None
        self._waiting: dict[int, list[Deferred[Reply]]] = {}
        self._timer: IDelayedCall | None = None
        self._acting = False
        self.ended = False

    def post(self, body: bytes) -> Reply:
        """Answer a POST."""
        answer = self.core.receive_post(body, now=self._reactor.seconds())
        self._connect()
        self.act()
        return _message(answer)

    def get(self, number: int, body: bytes, hold: float) -> Deferred[Reply]:
        """Answer a GET, later if there is nothing to say."""
        self.core.receive_get(number, body, hold, now=self._reactor.seconds())
        answer: Deferred[Reply] = Deferred(lambda d: self._left(number, d))
        self._waiting.setdefault(number, []).append(answer)
        self._connect()
        self.act()
        return answer

    def _connect(self) -> None:
        """The client is there: give the stream to whom it is for."""
        inside, self.inside = self.inside, None
        if inside is not None:
            self._owner.proven(self)
            self.transport.connect(inside)

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
        if self.ended:
            return
        self._cancel_timer()
        if self.core.lost or self.core.closed:
            self.ended = True
            self._timer = self._reactor.callLater(_KEEP_ENDED, self._owner.forget, self)
            self._owner.tunnel_ended(self)
            return
        delay = max(0.0, self.core.next_timer() - now)
        self._timer = self._reactor.callLater(delay, self._timed_out)

    def give_up(self) -> None:
        """Break off, also what lingers, and look again no more."""
        self.core.abort()
        inside, self.inside = self.inside, None
        if inside is not None:
            # It counts on being told of a connection and of its loss.
            self.transport.abortConnection()
            inside.makeConnection(self.transport)
            inside.connectionLost(Failure(ConnectionLost("nobody used the tunnel")))
        self.act()
        self.stop()

    def stop(self) -> None:
        """Look again no more."""
        self.ended = True
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
        self._awaited: set[_Tunnel] = set()
        self._all_ended: Deferred[None] | None = None
        self._probes: SilenceTable[_Tunnel] = SilenceTable(
            reactor, _PROBE_LIFE, _MOST_PROBES, self._give_up
        )
        self._unproven: SilenceTable[_Tunnel] = SilenceTable(
            reactor, _SECOND_REQUEST, _MOST_UNPROVEN, self._give_up
        )

    def __call__(self, request: Request) -> Reply | Deferred[Reply]:
        """Answer a request."""
        if not request.path.endswith(f"/{FINITE_MESSAGES}"):
            return self._application(request)
        query = dict(parse_qsl(request.query))
        number_text = query.get("n", "")
        try:
            tunnel_id = tunnel_id_of(request)
            if not _NUMBER.fullmatch(number_text):
                raise RemoteProtocolError("the request has no number", 400)
            number = int(number_text)
            if number == 0 and request.method == "POST":
                return self._open(tunnel_id, request)
            tunnel = self._tunnels.get(tunnel_id)
            if tunnel is None or tunnel.path != request.path:
                return plain_response(410, "There is no such tunnel any more.")
            if request.method == "POST":
                return tunnel.post(request.body)
            body = bytes.fromhex(query.get("m", ""))
            return tunnel.get(number, body, float(query.get("hold", HOLD)))
        except (RemoteProtocolError, ValueError) as e:
            return plain_response(400, f"That is not a message of a tunnel: {e}.")

    def ended(self) -> Deferred[None]:
        """Fire when the tunnels that there are now have ended, their last bytes read.

        They need new connections until then. Cancelling it ends the wait.
        """
        self._awaited = {t for t in self._tunnels.values() if not t.ended}
        self._all_ended = Deferred()
        self._tell_ended()
        return self._all_ended

    def _tell_ended(self) -> None:
        waiting = self._all_ended
        if waiting is not None and not self._awaited and not waiting.called:
            waiting.callback(None)

    def tunnel_ended(self, tunnel: _Tunnel) -> None:
        """A tunnel has nothing more to say."""
        self._awaited.discard(tunnel)
        self._tell_ended()

    def stop(self) -> None:
        """Serve no longer; the connections below are closed by their owner."""
        self._probes.stop()
        for unproven in self._unproven.stop():
            unproven.give_up()
        tunnels = list(self._tunnels.values())
        self._tunnels.clear()
        self._opened.clear()
        for tunnel in tunnels:
            tunnel.stop()

    def forget(self, tunnel: _Tunnel) -> None:
        """Forget a tunnel that has ended."""
        if self._tunnels.get(tunnel.tunnel_id) is tunnel:
            del self._tunnels[tunnel.tunnel_id], self._opened[tunnel.tunnel_id]
        self._probes.remove(tunnel)
        self._unproven.remove(tunnel)

    def proven(self, tunnel: _Tunnel) -> None:
        """A second request came."""
        self._unproven.remove(tunnel)

    def _give_up(self, tunnel: _Tunnel) -> None:
        tunnel.give_up()
        self.forget(tunnel)

    def _open(self, tunnel_id: str, request: Request) -> Reply | Deferred[Reply]:
        if tunnel_id in self._tunnels:
            # The answer to the first request was lost.
            return attrs.evolve(self._opened[tunnel_id], body=request.body)
        others = len(self._tunnels) - len(self._probes)
        if others >= _MOST_TUNNELS and not leads_nowhere(request):
            return plain_response(503, "There are too many tunnels here now.")
        waiting = self._opening.get(tunnel_id)
        answer: Deferred[Reply]
        if waiting is not None:
            answer = Deferred(waiting.remove)
            waiting.append(answer)
            return answer
        waiting = self._opening[tunnel_id] = []
        inner = maybeDeferred(cast(Any, self._application), as_upgrade(request))

        def left(answer: Deferred[Reply]) -> None:
            waiting.remove(answer)
            if not waiting:
                inner.cancel()

        answer = Deferred(left)
        waiting.append(answer)
        inner.addCallback(self._decided, tunnel_id, request)
        inner.addBoth(self._tell, tunnel_id)
        return answer

    def _decided(self, reply: Reply, tunnel_id: str, request: Request) -> Reply:
        if not isinstance(reply, SwitchProtocols):
            return reply
        tunnel = _Tunnel(self, self._reactor, tunnel_id, request)
        self._tunnels[tunnel_id] = tunnel
        answer = attrs.evolve(_message(request.body), headers=reply.headers)
        self._opened[tunnel_id] = answer
        if leads_nowhere(request):
            self._probes.add(tunnel)
            tunnel.transport.connect(reply.protocol)
        else:
            # The answer may not get there: then nobody is at the other end.
            tunnel.inside = reply.protocol
            self._unproven.add(tunnel)
        return answer

    def _tell(self, result: Reply | Failure, tunnel_id: str) -> None:
        for answer in self._opening.pop(tunnel_id):
            if isinstance(result, Failure):
                answer.errback(result)
            else:
                answer.callback(result)


def _message(body: bytes) -> Response:
    return Response(200, body, "application/octet-stream")
