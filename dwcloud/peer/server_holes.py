"""A server's further ports, each of which one client came through.

A client that hit one of many holes goes on using it for later streams. So the port
listens and answers the client's keep-alives, until nothing comes any more.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.net.dual_udp import AnyUDPPort
from dwcloud.peer.guessing import Hole
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.stun.binding import binding_response, is_binding_request
from dwcloud.protocol.stun.message import STUNMessage

__all__ = ["QUIET", "ServerHoles", "answer_binding"]

QUIET = 60.0
"""Seconds without a datagram after which a client is gone: it asks every 10 s."""


def answer_binding(port: AnyUDPPort, data: bytes, address: Address) -> None:
    """Answer a client that asks whether its hole is still open."""
    try:
        message = STUNMessage.decode(data)
    except RemoteProtocolError:
        return
    if is_binding_request(message):
        response = binding_response(message, address)
        port.sendDatagram(response.encode(fingerprint=message.has_fingerprint), address)


@attrs.define(eq=False)
class _Kept:
    """A port in use, or about to be.

    :ivar pending: the rendezvous with its client, until that has come about.
    :ivar received: datagrams at the last look.
    """

    hole: Hole
    client: Address
    pending: Deferred[IProtocol] | None = None
    timer: IDelayedCall | None = None
    received: int = 0


class ServerHoles:
    """The ports that clients came through.

    :param factory: takes the connections.
    """

    _log = Logger()

    def __init__(self, reactor: Any, factory: IProtocolFactory) -> None:
        self._reactor = reactor
        self._factory = factory
        self._kept: set[_Kept] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def meet(self, hole: Hole, client: Address, timeout: float) -> None:
        """Meet a client at a port, which is kept for as long as the client is."""
        kept = _Kept(hole, client)
        self._kept.add(kept)
        hole.on_stun = partial(self._stun_received, kept)
        kept.pending = hole.port.udt.rendezvous(client, self._factory, timeout)
        kept.pending.addCallbacks(partial(self._met, kept), partial(self._missed, kept))

    def stop(self) -> None:
        """Close all."""
        for kept in list(self._kept):
            self._close(kept)

    def _met(self, kept: _Kept, _: IProtocol) -> None:
        kept.pending = None
        self._log.info("met client at {client} over UDP", client=str(kept.client))
        kept.hole.port.udt.listen(self._factory)
        self._look(kept)

    def _missed(self, kept: _Kept, reason: Failure) -> None:
        kept.pending = None
        self._log.debug(
            "no rendezvous with {client}: {reason}",
            client=str(kept.client),
            reason=reason.getErrorMessage(),
        )
        self._close(kept)

    def _look(self, kept: _Kept) -> None:
        received = kept.hole.port.statistics.datagrams_received
        if received == kept.received:
            self._close(kept)
            return
        kept.received = received
        kept.timer = self._reactor.callLater(QUIET, self._look, kept)

    def _close(self, kept: _Kept) -> None:
        self._kept.discard(kept)
        if kept.timer is not None and kept.timer.active():
            kept.timer.cancel()
        if kept.pending is not None:
            kept.pending.cancel()
        kept.hole.close()

    def _stun_received(self, kept: _Kept, data: bytes, address: Address) -> None:
        if address == kept.client and kept.pending is None:
            answer_binding(kept.hole.port, data, address)
