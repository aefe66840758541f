"""HTTP/1.1 to a server's web service, over one stream."""

from __future__ import annotations

from typing import Any, Protocol, cast

import h11
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from dwcloud.net.protocol_switch import SwitchingProtocol
from dwcloud.relay.gateway.sessions import WebSession

__all__ = ["MAX_ANSWER_HEAD", "AnswerReceiver", "ServiceConnection"]

MAX_ANSWER_HEAD = 64 * 1024
"""Bytes of the head of an answer."""


class AnswerReceiver(Protocol):
    """Who has sent a request and is told the answer."""

    def answered(self, head: h11.Response) -> None:
        """The head of the answer has come."""

    def answer_continued(self, data: bytes) -> None:
        """A piece of its body has come."""

    def answer_ended(self) -> None:
        """It has come to its end."""

    def switched(self, head: h11.InformationalResponse) -> None:
        """The service speaks another protocol from here on."""

    def service_lost(self, reason: Failure) -> None:
        """There will be no further answer."""


class ServiceConnection(SwitchingProtocol):
    """One request after the other, each told to its receiver.

    :ivar session: whose it is; it counts as one of its streams.
    :ivar has_answered: whether it was used before.
    """

    def __init__(self, session: WebSession) -> None:
        self.session = session
        self.has_answered = False
        self._http = h11.Connection(h11.CLIENT, MAX_ANSWER_HEAD)
        self._receiver: AnswerReceiver | None = None
        self._opening: Deferred[Any] | None = None
        self._over = False
        self._last_words: Failure | None = None
        session.streams.add(self)

    # Opening and end

    def opens(self, opening: Deferred[Any]) -> None:
        """Note what is to be cancelled if nobody wants it any more."""
        self._opening = opening

        def done(result: Any) -> Any:
            self._opening = None
            if isinstance(result, Failure):
                self._forget()
            return result

        opening.addBoth(done)

    def _forget(self) -> None:
        self._over = True
        self.session.streams.discard(self)

    def abort(self) -> None:
        """Break it off, even while it is being opened."""
        self._receiver_gone()
        opening, transport = self._opening, self.transport
        if opening is not None:
            opening.cancel()
        elif transport is not None:
            cast(Any, transport).abortConnection()

    def _receiver_gone(self) -> None:
        receiver, self._receiver = self._receiver, None
        self._over = True
        if receiver is not None:
            receiver.service_lost(
                self._last_words or Failure(ConnectionLost("the session has ended"))
            )

    def leave(self) -> None:
        """Nobody waits for an answer any more: break it off and tell nobody."""
        self._receiver = None
        self.abort()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """The stream has ended."""
        self._forget()
        super().connectionLost(reason)

    def connectionEnded(self, reason: Failure) -> None:
        """An answer may end with the stream, but not with one that was cut."""
        if reason.check(ConnectionDone):
            self._end_of_stream()
        self._last_words = self._last_words or reason
        self._receiver_gone()

    def endOfInput(self) -> None:
        """The service says no more."""
        self._end_of_stream()
        cast(Any, self.transport).loseConnection()

    def _end_of_stream(self) -> None:
        if self._receiver is not None and self._http.their_state is h11.SEND_BODY:
            self._receive(b"")

    # Requests

    @property
    def is_usable(self) -> bool:
        """Whether the next request may be sent."""
        return not self._over and self._http.our_state is h11.IDLE

    def send(self, event: h11.Event, receiver: AnswerReceiver) -> None:
        """Send a request, piece by piece."""
        self._receiver = receiver
        data = self._http.send(event)
        if data and not self._over:
            cast(Any, self.transport).write(data)

    def finished(self) -> bool:
        """Get ready for the next request.

        :return: False if there can be none; the stream is closed then.
        """
        self._receiver = None
        self.has_answered = True
        if self._http.our_state is self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            if not self._http.trailing_data[0]:
                return True
        self._over = True
        cast(Any, self.transport).abortConnection()
        return False

    def switch(self, successor: Any) -> None:
        """Give the stream to another protocol."""
        self._receiver = None
        self.switch_to(successor, self._http.trailing_data[0])

    # Answers

    def bytesReceived(self, data: bytes) -> None:
        """A piece of an answer."""
        if self._receiver is None:
            # Nobody has asked anything.
            self._over = True
            cast(Any, self.transport).abortConnection()
            return
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            while self._receiver is not None and self._step(self._receiver):
                pass
        except h11.RemoteProtocolError as e:
            self._last_words = Failure(
                ConnectionLost(f"the answer of the service is not HTTP: {e}")
            )
            self.abort()

    def _step(self, receiver: AnswerReceiver) -> bool:
        """Tell one event; False if there is none."""
        event = self._http.next_event()
        if isinstance(event, h11.InformationalResponse):
            # Of the others a browser has asked for none, or we have answered for it.
            if event.status_code == 101:
                receiver.switched(event)
        elif isinstance(event, h11.Response):
            receiver.answered(event)
        elif isinstance(event, h11.Data):
            receiver.answer_continued(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            receiver.answer_ended()
        else:
            return False
        return True
