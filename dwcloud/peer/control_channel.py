"""One control connection of a server to its mediator, from listen to loss."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import RequestRefused
from dwcloud.net.channel_binding import channel_binding
from dwcloud.net.stun_tcp import STUNStreamProtocol
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.activity import Activity
from dwcloud.protocol.mediation.attributes import ACCESS_STATE
from dwcloud.protocol.mediation.keep_alive import KeepAliveMonitor, KeepAliveStep
from dwcloud.protocol.mediation.key_exchange import KeyExchange
from dwcloud.protocol.mediation.messages import (
    AccessChanged,
    ActivityReport,
    Bind,
    ConnectionRequested,
    GetConnectionState,
    ListenResponse,
)
from dwcloud.protocol.mediation.methods import Method
from dwcloud.protocol.mediation.registration import (
    Credentials,
    Registration,
    RegistrationCore,
    answer_received,
    registration_machine,
)
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.sealing import Sealing

__all__ = ["ASK_WITHIN", "BIND_RETRY", "ChannelOwner", "ControlChannel"]

ASK_WITHIN = 20.0
"""Seconds after which a server behind a proxy asks whether its channel works, whatever
the mediator says or has told it: proxies cut what is silent for 50 s."""

BIND_RETRY = 60.0
"""Seconds until a ``bind`` that failed is sent again (docs/protocol/mediation)."""

_REPLACED = "another server with the same identity registered; stop one of them"

_VERIFY_TIMEOUT = 2.0
"""Seconds for the mediator to answer after this machine's network changed."""

_ANSWER_TIMEOUT = 10.0
"""Seconds for the mediator to answer ``listen`` and ``bind``."""


@attrs.frozen
class ChannelOwner:
    """Who wants to know what happens on a channel.

    :ivar on_registered: told once, when the server can be reached.
    :ivar on_requested: told each connection request.
    :ivar on_access: told who may connect, where the mediator decides on that; also
        when it refuses to register the server because nobody owns its system.
    :ivar on_watched: told that the mediator wants to know what the server carries.
    :ivar on_closed: told once, with the reason in words; the last call.
    """

    on_registered: Callable[[ControlChannel, ListenResponse], None]
    on_requested: Callable[[ControlChannel, ConnectionRequested], None]
    on_access: Callable[[AccessChanged], None]
    on_watched: Callable[[], None]
    on_closed: Callable[[ControlChannel, str], None]


class ControlChannel:
    """Registers, reports addresses, keeps alive, and takes requests.

    :param exchange: a fresh key agreement.
    :param random_bytes: a source of randomness.
    :param direct: whether nothing on the way, as a proxy, cuts what is quiet.
    :param tunnelled: whether it runs inside HTTP: TLS, if there is any, may end on
        the way then, so that the proof of identity is not bound to it.
    :ivar answered: whether the mediator has answered the last request to register,
        be it by a refusal, and has not fallen silent since.
    :ivar replaced: whether another server with the same identity took the place.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        credentials: Credentials,
        exchange: KeyExchange,
        random_bytes: Callable[[int], bytes],
        owner: ChannelOwner,
        *,
        direct: bool = True,
        tunnelled: bool = False,
    ) -> None:
        self._reactor = reactor
        self._ask_within = math.inf if direct else ASK_WITHIN
        self._tunnelled = tunnelled
        self._random_bytes = random_bytes
        self._owner = owner
        self._bind = Bind()
        self.answered = False
        self.replaced = False
        self._registered = False
        self._closed = True
        self._why = ""
        self._monitor: KeepAliveMonitor | None = None
        self._keep_alive_timer: IDelayedCall | None = None
        self._bind_timer: IDelayedCall | None = None
        self._registration: Registration = registration_machine(
            RegistrationCore(
                credentials=credentials,
                exchange=exchange,
                channel_binding=self._channel_binding,
                random_bytes=random_bytes,
                request=self._request_listen,
                seal=self._seal,
                on_registered=self._accepted,
                on_refused=self._refused,
            )
        )

    @property
    def mediator_address(self) -> Address:
        """Where the connection leads to."""
        return self._connection.peerAddress

    def bind(self, bind: Bind) -> None:
        """Tell the mediator the server's addresses, now or once registered."""
        self._bind = bind
        if self._registered:
            self._send_bind()

    def report(self, activity: Activity) -> None:
        """Tell the mediator what the server carries."""
        if self._registered:
            report = ActivityReport(activity=activity)
            self._connection.sendMessage(report.to_stun(self._random_bytes(12)))

    def close(self, why: str = "closed by this server") -> None:
        """Close the connection, by the server's own wish."""
        if not self._closed:
            self._why = why
            self._connection.loseConnection()

    # STUNReceiver

    def connectionOpened(self, connection: STUNStreamProtocol) -> None:
        """Register."""
        self._connection = connection
        self._closed = False
        self._registration.connection_made()

    def requestReceived(self, message: STUNMessage, raw: bytes) -> None:
        """A mediator asks nothing of a server."""
        raise RemoteProtocolError("a server answers no requests", 400)

    def indicationReceived(self, message: STUNMessage, raw: bytes) -> None:
        """Take a connection request, a change of access, a question what the server
        carries, or the end by a double."""
        if not self._registered:
            raise RemoteProtocolError("an indication before the answer to listen", 400)
        self._heard()
        if message.method == Method.REPLACED:
            self.replaced = True
            self._give_up(_REPLACED)
            return
        try:
            if message.method == Method.CONNECTION_REQUESTED:
                request = ConnectionRequested.from_stun(message)
                self._owner.on_requested(self, request)
            elif message.method == Method.ACCESS_CHANGED:
                self._owner.on_access(AccessChanged.from_stun(message))
            elif message.method == Method.WATCH:
                self._owner.on_watched()
        except RemoteProtocolError as error:
            # A newer mediator may say what this server does not understand.
            self._log.warn(
                "a {method} of the mediator is ignored: {error}",
                method=Method(message.method).name.lower(),
                error=error,
            )

    def connectionClosed(self, reason: Failure) -> None:
        """Tell the owner."""
        self._closed = True
        self._registered = False
        for timer in (self._keep_alive_timer, self._bind_timer):
            if timer is not None:
                timer.cancel()
        self._keep_alive_timer = self._bind_timer = None
        self._registration.connection_lost()
        self._owner.on_closed(self, self._why or reason.getErrorMessage())

    # Registration

    def _channel_binding(self) -> bytes:
        if self._tunnelled:
            return b""
        return channel_binding(self._connection.transport)

    def _request_listen(self, message: STUNMessage) -> None:
        self.answered = False
        answer = self._connection.request(message, timeout=_ANSWER_TIMEOUT)
        answer.addCallbacks(self._listen_answered, self._listen_failed)
        answer.addErrback(self._broken)

    def _listen_answered(self, message: STUNMessage) -> None:
        self.answered = True
        answer_received(self._registration, message)

    def _listen_failed(self, reason: Failure) -> None:
        error = reason.value
        if isinstance(error, RequestRefused) and error.response is not None:
            self.answered = True
            self._look_for_access(error.response)
            answer_received(self._registration, error.response)
        elif not self._closed:
            text = f"no answer to listen: {reason.getErrorMessage()}"
            self._registration.refusal_received(400, text)

    def _look_for_access(self, refusal: STUNMessage) -> None:
        """A refusal may say that nobody owns the system: what was admitted ends."""
        value = refusal.get(ACCESS_STATE.number)
        if value is None:
            return
        state = ACCESS_STATE.decode(value, refusal.transaction_id)
        if not state.is_bound:
            self._owner.on_access(AccessChanged(state=state, revocations=()))

    def _seal(self, sealing: Sealing) -> None:
        self._connection.sealing = sealing

    def _accepted(self, response: ListenResponse) -> None:
        self._registered = True
        now = self._reactor.seconds()
        self._monitor = KeepAliveMonitor(
            response.keep_alive, now=now, ask_within=self._ask_within
        )
        self._arm_keep_alive()
        self._send_bind()
        self._owner.on_registered(self, response)

    def _refused(self, code: int, reason: str) -> None:
        self._give_up(f"registration refused: {code} {reason}".rstrip())

    def _broken(self, reason: Failure) -> None:
        self._log.failure("registration broke", reason)
        self._give_up("registration broke; the log tells more")

    def _give_up(self, why: str) -> None:
        if not self._closed:
            self._why = why
            self._connection.abortConnection()

    # Addresses

    def _send_bind(self) -> None:
        if self._bind_timer is not None:
            self._bind_timer.cancel()
            self._bind_timer = None
        message = self._bind.to_stun(self._random_bytes(12))
        answer = self._connection.request(message, timeout=_ANSWER_TIMEOUT)
        answer.addCallbacks(
            lambda _: self._heard(), self._bind_failed, errbackArgs=(self._bind,)
        )

    def _bind_failed(self, reason: Failure, bind: Bind) -> None:
        if self._closed or bind is not self._bind:
            return
        self._log.warn(
            "the mediator did not take this server's addresses: {reason}; "
            "trying again in {seconds} s",
            reason=reason.getErrorMessage(),
            seconds=BIND_RETRY,
        )
        if self._bind_timer is None:
            self._bind_timer = self._reactor.callLater(BIND_RETRY, self._retry_bind)

    def _retry_bind(self) -> None:
        self._bind_timer = None
        self._send_bind()

    # Keep-alive

    def _heard(self) -> None:
        if self._monitor is not None and not self._closed:
            self._monitor.heard(now=self._reactor.seconds())

    def _arm_keep_alive(self) -> None:
        assert self._monitor is not None
        delay = max(0.0, self._monitor.next_timer() - self._reactor.seconds())
        self._keep_alive_timer = self._reactor.callLater(delay, self._keep_alive_due)

    def _keep_alive_due(self) -> None:
        assert self._monitor is not None
        self._keep_alive_timer = None
        step = self._monitor.handle_timer(now=self._reactor.seconds())
        if step is KeepAliveStep.GIVE_UP:
            self.answered = False
            self._give_up("the mediator fell silent")
            return
        if step is KeepAliveStep.ASK:
            message = GetConnectionState().to_stun(self._random_bytes(12))
            answer = self._connection.request(message)
            answer.addCallbacks(lambda _: self._heard(), self._state_refused)
        self._arm_keep_alive()

    def verify(self) -> None:
        """Find out at once whether the connection still works; close it if not."""
        if not self._registered:
            # Nothing is lost by beginning again.
            self._give_up("the network changed")
            return
        message = GetConnectionState().to_stun(self._random_bytes(12))
        answer = self._connection.request(message, timeout=_VERIFY_TIMEOUT)
        answer.addCallbacks(lambda _: self._heard(), self._not_verified)

    def _not_verified(self, reason: Failure) -> None:
        if reason.check(RequestRefused):
            self._heard()
        else:
            self._give_up("the network changed")

    def _state_refused(self, reason: Failure) -> None:
        # An error answer is a sign of life, too; silence is the monitor's affair.
        if reason.check(RequestRefused):
            self._heard()
