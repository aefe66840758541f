"""One introduction: what the initiator decides, done over UDP and TCP."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, succeed
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
from dwcloud.net.dual_udp import AnyUDPPort
from dwcloud.net.stun_tcp import STUNStreamProtocol
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.mediator_udp import MediatorUDP, first_answer
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.log_ids import log_id
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
from dwcloud.protocol.stun.transaction import DATAGRAM_TIMING, Timing

__all__ = ["LIMIT", "ask_over_tcp", "request_connection"]

LIMIT = 20.0
"""Seconds for an introduction (docs/protocol/mediation)."""
_LINGER = 2.0
"""Seconds that a copy is repeated over one version of IP after the answer came over the
other: it is to show the mediator an address, nobody waits for its answer."""
_SHOW_TIMING = Timing(tries=3, initial_interval=0.5, last_wait=0.5)


def request_connection(
    reactor: Any,
    udp: AnyUDPPort,
    stun: STUNDatagramClient,
    mediator: MediatorAddress,
    request: Connect,
    endpoint: IStreamClientEndpoint,
    *,
    limit: float = LIMIT,
    random_bytes: Callable[[int], bytes] = os.urandom,
    on_channel: Callable[[Channel], None] = lambda channel: None,
    addresses: MediatorUDP | None = None,
) -> Deferred[ConnectResponse]:
    """Ask the mediator for an introduction.

    :param udp: the port that will punch, and asks.
    :param stun: makes requests from that port.
    :param endpoint: leads to the mediator over TCP, or inside HTTP.
    :param limit: seconds for an answer.
    :param on_channel: told how the answer came, before it is given.
    :param addresses: the mediator's UDP addresses as far as they are known.
    :return: fires with an answer that says OK. Fails with
        :exc:`~dwcloud.errors.PeerUnknown`, :exc:`~dwcloud.errors.PeerOffline` or
        :exc:`~dwcloud.errors.ServerDidNotAnswer` as the mediator says, with
        :exc:`~dwcloud.errors.RequestRefused` if it refused, with
        :exc:`~dwcloud.errors.MediatorUnreachable` if there was no answer. Cancellable.
    """
    return _Introduction(
        reactor,
        udp,
        stun,
        mediator,
        request,
        limit,
        endpoint,
        random_bytes,
        on_channel,
        addresses or MediatorUDP(reactor, mediator),
    ).start()


class _Introduction:
    """One request: what the initiator decides, done."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        udp: AnyUDPPort,
        stun: STUNDatagramClient,
        mediator: MediatorAddress,
        request: Connect,
        limit: float,
        endpoint: IStreamClientEndpoint,
        random_bytes: Callable[[int], bytes],
        on_channel: Callable[[Channel], None],
        addresses: MediatorUDP,
    ) -> None:
        self._reactor = reactor
        self._udp = udp
        self._stun = stun
        self._mediator = mediator
        self._request = request
        self._endpoint = endpoint
        self._random_bytes = random_bytes
        self._on_channel = on_channel
        self._addresses = addresses
        self._shown: set[int] = set()
        self._initiator = Initiator(limit=limit)
        self._under_way: dict[Channel, Deferred[Any]] = {}
        self._refusal: RequestRefused | None = None
        self._timer: IDelayedCall | None = None
        self._result: Deferred[ConnectResponse] = Deferred(self._cancelled)

    def start(self) -> Deferred[ConnectResponse]:
        self._log.info(
            "session {connect_session_id}: asking mediator {mediator} for {peer}",
            connect_session_id=log_id(self._request.session_id),
            mediator=str(self._mediator),
            peer=str(self._request.target),
        )
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
        """Ask over both versions of IP at once: the mediator is to see both sides."""
        asking = []
        for family in sorted(self._udp.ports):
            resolving = self._addresses.resolve(family)
            each: Deferred[STUNMessage] = resolving.addCallback(self._send_udp)
            asking.append(each)
        return first_answer(
            asking, on_answer=lambda other: other.addTimeout(_LINGER, self._reactor)
        )

    def _send_udp(
        self, address: Address, timing: Timing = DATAGRAM_TIMING
    ) -> Deferred[STUNMessage]:
        message = self._request.to_padded_stun(self._random_bytes(12))
        self._shown.add(address.family)
        statistics = self._udp.ports[address.family].statistics
        lost = statistics.datagrams_lost
        asking = self._stun.request(message, address, timing=timing)
        if statistics.datagrams_lost > lost:
            # The operating system sees no way; that does not change in half a second.
            asking.addErrback(lambda reason: reason.trap(CancelledError))
            asking.cancel()
            raise MediatorUnreachable(statistics.last_loss)
        return asking

    def _show_the_rest(self, response: ConnectResponse) -> None:
        """Let the mediator see this client over what it told its address of only now.

        It then tells the server, which is punching already.
        """
        self._addresses.learn(response.mediator_endpoints)
        if not response.udp_endpoints:
            return
        for address in response.mediator_endpoints:
            if address.family in self._shown or address.family not in self._udp.ports:
                continue
            showing = succeed(address).addCallback(self._send_udp, _SHOW_TIMING)
            showing.addErrback(
                lambda reason: self._log.debug(
                    "session {connect_session_id}: the mediator does not answer at the "
                    "address that it told: {reason}",
                    connect_session_id=log_id(self._request.session_id),
                    reason=reason.getErrorMessage(),
                )
            )

    def _ask_tcp(self) -> Deferred[STUNMessage]:
        message = self._request.to_stun(self._random_bytes(12))
        return ask_over_tcp(self._reactor, self._endpoint, message)

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
            "session {connect_session_id}: the mediator answered {result} over "
            "{channel} after {seconds} s",
            connect_session_id=log_id(request.session_id),
            result=response.result.label,
            channel=event.channel.value,
            seconds=round(event.seconds, 3),
        )
        self._on_channel(event.channel)
        self._show_the_rest(response)
        error = _error_of(response, request.target, self._mediator)
        if error is None:
            self._result.callback(response)
        else:
            self._result.errback(error)

    def _not_answered(self, event: NoAnswer) -> None:
        self._log.info(
            "session {connect_session_id}: the mediator did not answer: {reasons}",
            connect_session_id=log_id(self._request.session_id),
            reasons={c.value: text for c, text in event.reasons.items()},
        )
        if self._refusal is not None:
            self._result.errback(self._refusal)
            return
        listing = "; ".join(f"{c.value}: {text}" for c, text in event.reasons.items())
        self._result.errback(
            MediatorUnreachable(f"no answer from mediator {self._mediator} ({listing})")
        )


def ask_over_tcp(
    reactor: Any, endpoint: IStreamClientEndpoint, message: STUNMessage
) -> Deferred[STUNMessage]:
    """Ask the mediator on a TCP connection of its own; return the success answer."""
    question = _Question(message)
    connecting: Deferred[IProtocol] = endpoint.connect(
        _QuestionFactory(reactor, question)
    )
    return cast(
        "Deferred[STUNMessage]", connecting.addCallback(lambda _: question.answer)
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
    response: ConnectResponse, target: PeerName, mediator: MediatorAddress
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
