"""One introduction: what the initiator decides, done over UDP and TCP."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import (
    CloudError,
    MediatorUnreachable,
    PeerOffline,
    PeerUnknown,
    RequestRefused,
    ServerDidNotAnswer,
)
from dwcloud.net.stun_tcp import STUNStreamProtocol
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.mediator_resolution import resolve_for_port
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.initiator import (
    Answered,
    AskOverTCP,
    AskOverUDP,
    Channel,
    Initiator,
    NoAnswer,
    StopAsking,
)
from dwcloud.protocol.mediation.messages import Connect, ConnectResponse
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.stun.message import STUNMessage

__all__ = ["LIMIT", "request_connection"]

LIMIT = 20.0
"""Seconds for an introduction (docs/protocol/mediation)."""


def request_connection(
    reactor: Any,
    udp: SharedUDPPort,
    stun: STUNDatagramClient,
    mediator_host: str,
    mediator_port: int,
    request: Connect,
    *,
    limit: float = LIMIT,
    endpoint: IStreamClientEndpoint | None = None,
    interface: str = "",
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> Deferred[ConnectResponse]:
    """Ask the mediator for an introduction.

    :param udp: the port that will punch, and asks.
    :param stun: makes requests from that port.
    :param limit: seconds for an answer.
    :param endpoint: leads to the mediator over TCP; direct by default.
    :param interface: local IP address to connect from directly, empty for any.
    :return: fires with an answer that says OK. Fails with
        :exc:`~dwcloud.errors.PeerUnknown`, :exc:`~dwcloud.errors.PeerOffline` or
        :exc:`~dwcloud.errors.ServerDidNotAnswer` as the mediator says, with
        :exc:`~dwcloud.errors.RequestRefused` if it refused, with
        :exc:`~dwcloud.errors.MediatorUnreachable` if there was no answer. Cancellable.
    """
    if endpoint is None:
        endpoint = HostnameEndpoint(
            reactor,
            mediator_host,
            mediator_port,
            timeout=limit,
            bindAddress=interface or None,
        )
    return _Introduction(
        reactor,
        udp,
        stun,
        Address(mediator_host, mediator_port),
        request,
        limit,
        endpoint,
        random_bytes,
    ).start()


class _Introduction:
    """One request: what the initiator decides, done."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        udp: SharedUDPPort,
        stun: STUNDatagramClient,
        mediator: Address,
        request: Connect,
        limit: float,
        endpoint: IStreamClientEndpoint,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._reactor = reactor
        self._udp = udp
        self._stun = stun
        self._mediator = mediator
        self._request = request
        self._endpoint = endpoint
        self._random_bytes = random_bytes
        self._initiator = Initiator(limit=limit)
        self._under_way: dict[Channel, Deferred[Any]] = {}
        self._refusal: RequestRefused | None = None
        self._timer: IDelayedCall | None = None
        self._result: Deferred[ConnectResponse] = Deferred(self._cancelled)

    def start(self) -> Deferred[ConnectResponse]:
        self._initiator.start(now=self._reactor.seconds())
        self._go_on()
        return self._result

    def _cancelled(self, _: Deferred[ConnectResponse]) -> None:
        self._initiator.cancel()
        self._go_on()

    def _go_on(self) -> None:
        while (event := self._initiator.next_event()) is not None:
            if isinstance(event, AskOverUDP):
                self._ask(Channel.UDP, self._ask_udp())
            elif isinstance(event, AskOverTCP):
                self._ask(Channel.TCP, self._ask_tcp())
            elif isinstance(event, StopAsking):
                asking = self._under_way.pop(event.channel, None)
                if asking is not None:
                    asking.cancel()
            elif isinstance(event, Answered):
                self._answered(event)
            else:
                self._not_answered(event)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._initiator.next_timer()
        if at is not None:
            delay = max(0.0, at - self._reactor.seconds())
            self._timer = self._reactor.callLater(delay, self._timer_due)

    def _timer_due(self) -> None:
        self._timer = None
        self._initiator.handle_timer(now=self._reactor.seconds())
        self._go_on()

    # Asking

    def _ask(self, channel: Channel, asking: Deferred[STUNMessage]) -> None:
        self._under_way[channel] = asking
        asking.addCallback(ConnectResponse.from_stun)
        asking.addCallbacks(
            self._response_received,
            self._channel_failed,
            callbackArgs=(channel,),
            errbackArgs=(channel,),
        )

    def _ask_udp(self) -> Deferred[STUNMessage]:
        resolving = resolve_for_port(
            self._reactor, self._mediator.host, self._mediator.port, self._udp
        )
        asking: Deferred[STUNMessage] = resolving.addCallback(self._send_udp)
        return asking

    def _send_udp(self, address: Address) -> Deferred[STUNMessage]:
        message = self._request.to_padded_stun(self._random_bytes(12))
        lost = self._udp.statistics.datagrams_lost
        asking = self._stun.request(message, address)
        if self._udp.statistics.datagrams_lost > lost:
            # The operating system sees no way; that does not change in half a second.
            asking.addErrback(lambda reason: reason.trap(CancelledError))
            asking.cancel()
            raise MediatorUnreachable(self._udp.statistics.last_loss)
        return asking

    def _ask_tcp(self) -> Deferred[STUNMessage]:
        question = _Question(self._request.to_stun(self._random_bytes(12)))
        connecting: Deferred[IProtocol] = self._endpoint.connect(
            _QuestionFactory(self._reactor, question)
        )
        asking: Deferred[STUNMessage] = connecting.addCallback(
            lambda _: question.answer
        )
        return asking

    def _response_received(self, response: ConnectResponse, channel: Channel) -> None:
        self._under_way.pop(channel, None)
        now = self._reactor.seconds()
        self._initiator.receive_answer(channel, response, now=now)
        self._go_on()

    def _channel_failed(self, reason: Failure, channel: Channel) -> None:
        if self._under_way.pop(channel, None) is None:
            # Stopped, because the other one was faster.
            return
        if isinstance(reason.value, RequestRefused):
            self._refusal = reason.value
        now = self._reactor.seconds()
        self._initiator.fail(channel, reason.getErrorMessage(), now=now)
        self._go_on()

    # The end

    def _answered(self, event: Answered) -> None:
        response, request = event.response, self._request
        self._log.info(
            "session {session}: the mediator answered {result} over {channel} "
            "after {seconds} s",
            session=str(request.session_id),
            result=response.result.label,
            channel=event.channel.value,
            seconds=round(event.seconds, 3),
        )
        error = _error_of(response, request.target, self._mediator)
        if error is None:
            self._result.callback(response)
        else:
            self._result.errback(error)

    def _not_answered(self, event: NoAnswer) -> None:
        if self._refusal is not None:
            self._result.errback(self._refusal)
            return
        listing = "; ".join(f"{c.value}: {text}" for c, text in event.reasons.items())
        self._result.errback(
            MediatorUnreachable(f"no answer from mediator {self._mediator} ({listing})")
        )


class _Question:
    """One request on a TCP connection of its own."""

    def __init__(self, message: STUNMessage) -> None:
        self._message = message
        self._connection: STUNStreamProtocol | None = None
        self.answer: Deferred[STUNMessage] = Deferred(lambda _: self._abandoned())

    def _abandoned(self) -> None:
        if self._connection is not None:
            self._connection.abortConnection()

    # STUNReceiver

    def connectionOpened(self, connection: STUNStreamProtocol) -> None:
        """Ask."""
        self._connection = connection
        connection.request(self._message).addBoth(self._answered)

    def requestReceived(self, message: STUNMessage, raw: bytes) -> None:
        """A mediator asks nothing of a client."""
        raise RemoteProtocolError("a client answers no requests", 400)

    def indicationReceived(self, message: STUNMessage, raw: bytes) -> None:
        """There is none that concerns a client."""

    def connectionClosed(self, reason: Failure) -> None:
        """The request, if it was still pending, has failed by now."""

    def _answered(self, result: STUNMessage | Failure) -> None:
        if self._connection is not None:
            self._connection.loseConnection()
        if not self.answer.called:
            self.answer.callback(result)


class _QuestionFactory(Factory):
    """Makes the protocol of a connection for one question."""

    noisy = False

    def __init__(self, reactor: Any, question: _Question) -> None:
        self._reactor = reactor
        self._question = question

    def buildProtocol(self, addr: IAddress | None) -> STUNStreamProtocol:
        """Make it."""
        return STUNStreamProtocol(self._reactor, self._question)


def _error_of(
    response: ConnectResponse, target: PeerName, mediator: Address
) -> CloudError | None:
    """Return the exception for an answer that does not say OK."""
    if response.result is ResultCode.OK and response.server is not None:
        return None
    if response.result is ResultCode.PEER_UNKNOWN:
        return PeerUnknown(f"mediator {mediator} knows no server {target}")
    if response.result is ResultCode.PEER_OFFLINE:
        return PeerOffline(
            f"{target} is offline: it has no contact with mediator {mediator}"
        )
    return ServerDidNotAnswer(
        f"{target} is online at mediator {mediator}, but did not confirm the request: "
        f"{response.result.label}"
    )
