"""The server's answers to connection requests: each confirmed once, and punched to."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import RequestRefused
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import ConnectionAck, ConnectionRequested
from dwcloud.protocol.mediation.responder import (
    Response,
    ResponseCore,
    response_machine,
)
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.transaction import Timing

__all__ = ["Responders"]

_ACK_TIMING = Timing(tries=5, initial_interval=0.5, last_wait=2.0)
"""Confirmations at 0, 0.5, 1.5, 3.5 and 7.5 s: later than that no client waits."""


@attrs.define(eq=False)
class _Responder:
    machine: Response
    expires: float


class Responders:
    """Takes connection requests of the mediator, repeated ones included.

    :param stun: sends from the socket that punches.
    :param random_bytes: a source of randomness.
    :param punch: told each request, with those of its addresses that are news.
    :param lifetime: seconds that a session is remembered.
    :param capacity: sessions remembered; the oldest is forgotten.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        stun: STUNDatagramClient,
        random_bytes: Callable[[int], bytes],
        punch: Callable[[ConnectionRequested], None],
        *,
        lifetime: float = 60.0,
        capacity: int = 1000,
    ) -> None:
        self._reactor = reactor
        self._stun = stun
        self._random_bytes = random_bytes
        self._punch = punch
        self._lifetime = lifetime
        self._capacity = capacity
        self._responders: OrderedDict[uuid.UUID, _Responder] = OrderedDict()

    def __len__(self) -> int:
        return len(self._responders)

    def receive_request(
        self,
        request: ConnectionRequested,
        mediator: Address,
        local_endpoints: Sequence[Address],
    ) -> None:
        """Confirm a request and punch to the client.

        :param mediator: where confirmations go.
        :param local_endpoints: of the socket that punches.
        """
        self._forget_old()
        responder = self._responders.get(request.session_id)
        if responder is None:
            responder = self._add(request, mediator, tuple(local_endpoints))
        responder.machine.requested(request)

    def stop(self) -> None:
        """Stop confirming."""
        while self._responders:
            self._forget_oldest()

    def _add(
        self,
        request: ConnectionRequested,
        mediator: Address,
        local_endpoints: tuple[Address, ...],
    ) -> _Responder:
        confirming: list[Deferred[STUNMessage]] = []

        def acknowledge(ack: ConnectionAck, token: bytes) -> None:
            sent = self._stun.request(
                ack.to_stun(self._random_bytes(12)),
                mediator,
                integrity_key=token,
                timing=_ACK_TIMING,
            )
            confirming.append(sent)
            sent.addCallbacks(
                lambda _: responder.machine.ack_accepted(),
                lambda reason: self._not_accepted(request, responder, reason),
            )

        def withdraw() -> None:
            for sent in confirming:
                sent.cancel()

        machine = response_machine(
            ResponseCore(
                local_endpoints=local_endpoints,
                acknowledge=acknowledge,
                punch=lambda request, new: self._punch(
                    attrs.evolve(request, udp_endpoints=new)
                ),
                abandon=lambda: None,
                withdraw=withdraw,
            )
        )
        expires = self._reactor.seconds() + self._lifetime
        responder = _Responder(machine, expires)
        while len(self._responders) >= self._capacity:
            self._forget_oldest()
        self._responders[request.session_id] = responder
        return responder

    def _not_accepted(
        self, request: ConnectionRequested, responder: _Responder, reason: Failure
    ) -> None:
        if reason.check(CancelledError, ConnectionDone):
            return
        self._log.info(
            "session {session}: connection_ack was not accepted: {reason}",
            session=str(request.session_id),
            reason=reason.getErrorMessage(),
        )
        if reason.check(RequestRefused):
            responder.machine.ack_refused()
        else:
            responder.machine.ack_timed_out()

    def _forget_old(self) -> None:
        now = self._reactor.seconds()
        while self._responders:
            if next(iter(self._responders.values())).expires > now:
                return
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, responder = self._responders.popitem(last=False)
        responder.machine.ended()
