"""The echo at the beginning of a tunnel: the proof that bytes pass both ways.

A proxy may answer as if a tunnel were open and pass nothing on. So the client sends a
few bytes first, and the tunnel counts when they have come back
(docs/protocol/tunnelling).
"""

from __future__ import annotations

from typing import Any, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IReactorTime
from twisted.python.failure import Failure

from dwcloud.errors import TunnelRefused
from dwcloud.net.http_client import HTTPAnswer
from dwcloud.net.protocol_switch import SwitchingProtocol
from dwcloud.net.silence import SilenceTable

__all__ = [
    "ECHO_LIMIT",
    "EchoFirst",
    "Tunnel",
    "UsableTunnel",
    "VerifiedTunnel",
    "verify",
]

ECHO_LIMIT = 3.0
"""Seconds for the bytes to come back."""


class Tunnel(Protocol):
    """A tunnel that is open and belongs to nobody yet."""

    @property
    def answer(self) -> HTTPAnswer:
        """The answer that opened it."""

    @property
    def peer(self) -> IAddress:
        """The far end of the connection."""

    def connect(self, protocol: IProtocol) -> None:
        """Give the byte stream to ``protocol``."""

    def disconnect(self) -> None:
        """Close it unused."""


class UsableTunnel(Tunnel, Protocol):
    """A tunnel through which bytes went both ways."""

    @property
    def method(self) -> str:
        """The tunnelling method."""


class EchoFirst(SwitchingProtocol):
    """The service's side: sends the first bytes back, then steps aside.

    :param waiting: those that wait for their bytes, which limits their time and number.
    :param protocol: gets the stream after them.
    :param size: how many bytes are sent back.
    """

    def __init__(
        self, waiting: SilenceTable[EchoFirst], protocol: IProtocol, size: int
    ) -> None:
        self._waiting = waiting
        self._protocol = protocol
        self._size = size
        self._received = b""

    def connectionMade(self) -> None:
        """Begin to wait."""
        self._waiting.add(self)

    def bytesReceived(self, data: bytes) -> None:
        """Collect, send back, step aside."""
        self._received += data
        if len(self._received) < self._size:
            return
        self._waiting.remove(self)
        echo, leftover = self._received[: self._size], self._received[self._size :]
        cast(Any, self.transport).write(echo)
        self.switch_to(self._protocol, leftover)

    def connectionEnded(self, reason: Failure) -> None:
        """Tell the protocol, which counts on being told."""
        self._waiting.remove(self)
        self._protocol.makeConnection(cast(Any, self.transport))
        self._protocol.connectionLost(reason)

    def abort(self) -> None:
        """Break the connection off: the bytes did not come, or others need room."""
        cast(Any, self.transport).abortConnection()


class _Asker(SwitchingProtocol):
    """The client's side: sends bytes and waits for them."""

    def __init__(
        self,
        reactor: IReactorTime,
        method: str,
        answer: HTTPAnswer,
        sent: bytes,
        limit: float,
        sent_ahead: bool,
    ) -> None:
        self._reactor = reactor
        self._sent_ahead = sent_ahead
        self._limit = limit
        self._timer: IDelayedCall | None = None
        self._received = b""
        self._method = method
        self._answer = answer
        self._sent = sent
        self._lost: Failure | None = None
        self.done: Deferred[VerifiedTunnel] = Deferred(self._cancelled)

    def connectionMade(self) -> None:
        """Ask."""
        self._timer = self._reactor.callLater(self._limit, self._timed_out)
        if not self._sent_ahead:
            cast(Any, self.transport).write(self._sent)

    def bytesReceived(self, data: bytes) -> None:
        """Compare; what comes behind is for whom the tunnel is."""
        self._received += data
        size = len(self._sent)
        if self.done.called or len(self._received) < size:
            return
        self._stop_timer()
        if self._received[:size] != self._sent:
            self._fail("other bytes come back through the tunnel than were sent")
            return
        self._received = self._received[size:]
        self.done.callback(VerifiedTunnel(self._method, self._answer, self))

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _timed_out(self) -> None:
        self._timer = None
        self._fail("the answer is that of an open tunnel, but no byte comes back")

    def connectionEnded(self, reason: Failure) -> None:
        """It ended before, or between the echo and the connecting."""
        self._stop_timer()
        self._lost = reason
        if not self.done.called:
            self.done.errback(
                TunnelRefused(
                    "the tunnel was cut before a byte came back: "
                    + reason.getErrorMessage(),
                    0,
                )
            )

    def _fail(self, why: str) -> None:
        done = self.done
        if not done.called:
            done.errback(TunnelRefused(why, 0))
        cast(Any, self.transport).abortConnection()

    def _cancelled(self, done: Deferred[VerifiedTunnel]) -> None:
        self._stop_timer()
        cast(Any, self.transport).abortConnection()

    def give_to(self, protocol: IProtocol) -> None:
        """Give the stream away."""
        received, self._received = self._received, b""
        if self._lost is None:
            self.switch_to(protocol, received)
            return
        protocol.makeConnection(cast(Any, self.transport))
        if received:
            protocol.dataReceived(received)
        protocol.connectionLost(self._lost)


class VerifiedTunnel:
    """A tunnel through which bytes went both ways.

    :ivar method: the tunnelling method.
    :ivar answer: the answer that opened it.
    """

    def __init__(self, method: str, answer: HTTPAnswer, asker: _Asker) -> None:
        self.method = method
        self.answer = answer
        self._asker = asker

    @property
    def peer(self) -> IAddress:
        """The far end of the connection."""
        return cast(IAddress, cast(Any, self._asker.transport).getPeer())

    def connect(self, protocol: IProtocol) -> None:
        """Give the byte stream to ``protocol``."""
        self._asker.give_to(protocol)

    def disconnect(self) -> None:
        """Close it unused."""
        cast(Any, self._asker.transport).abortConnection()


def verify(
    reactor: IReactorTime,
    method: str,
    tunnel: Tunnel,
    sent: bytes,
    limit: float = ECHO_LIMIT,
    *,
    sent_ahead: bool = False,
) -> Deferred[VerifiedTunnel]:
    """Send bytes through a tunnel whose service sends them back.

    :param method: by which it was opened.
    :param sent_ahead: whether the bytes went with the request for the tunnel already.
    :return: fails with TunnelRefused if they do not come back in time; the tunnel is
        closed then. Cancelling it closes the tunnel.
    """
    asker = _Asker(reactor, method, tunnel.answer, sent, limit, sent_ahead)
    tunnel.connect(asker)
    return asker.done
