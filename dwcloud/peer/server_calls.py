"""A server's further ports, from each of which it sends to one client first.

What came to the usual port may have spoilt it: a router without a firewall gives its
host another external port then, for all that is new (docs/protocol/punching).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IProtocolFactory

from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.guessing import Hole, governor_of
from dwcloud.peer.punching import Puncher
from dwcloud.peer.responders import PunchingPort
from dwcloud.peer.server_holes import QUIET, answer_binding
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import ConnectionRequested
from dwcloud.protocol.nat import NATSummary

__all__ = ["ServerCalls"]

_MOST = 100
"""Such ports at a time; the governor may have a lower limit."""
_MARGIN = 1.0


@attrs.define(eq=False)
class _Call:
    """A port.

    :ivar received: datagrams at the last look.
    """

    hole: Hole
    puncher: Puncher
    timer: IDelayedCall | None = None
    received: int = 0

    @property
    def port(self) -> SharedUDPPort:
        return self.hole.port


class ServerCalls:
    """The ports that are in use, or about to be.

    :param factory: takes the connections.
    :param interface: the local IP address, or a wildcard.
    :ivar nat: what is known of this server's NAT.
    """

    def __init__(self, reactor: Any, factory: IProtocolFactory, interface: str) -> None:
        self._reactor = reactor
        self._factory = factory
        self._interface = interface
        self._governor = governor_of(reactor)
        self._calls: set[_Call] = set()
        self.nat: NATSummary | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def open(self, request: ConnectionRequested) -> PunchingPort | None:
        """Open a port for a client; None is that there are too many already."""
        if len(self._calls) >= _MOST or not self._governor.take_mapping():
            return None
        hole = Hole(self._reactor, self._interface, self._governor)
        try:
            hole.open()
        except (CannotListenError, OSError):
            self._governor.release_mapping()
            return None
        puncher = Puncher(
            self._reactor, hole.port, self._factory, interface=self._interface
        )
        puncher.nat = self.nat
        call = _Call(hole, puncher)
        self._calls.add(call)
        hole.on_stun = partial(self._stun_received, call)
        hole.port.udt.listen(self._factory)
        limit = request.parameters.rendezvous_timeout + _MARGIN
        call.timer = self._reactor.callLater(limit, self._first_look, call)
        return PunchingPort(hole.stun, puncher.punch, hole.port.getHost().family)

    def stop(self) -> None:
        """Close all."""
        for call in list(self._calls):
            self._close(call)

    def _stun_received(self, call: _Call, data: bytes, address: Address) -> None:
        if call.puncher.searches.datagramReceived(data, address):
            return
        if call.puncher.knows(address):
            answer_binding(call.port, data, address)

    def _first_look(self, call: _Call) -> None:
        if call.puncher.has_met:
            self._look(call)
        else:
            self._close(call)

    def _look(self, call: _Call) -> None:
        received = call.port.statistics.datagrams_received
        if received == call.received:
            self._close(call)
            return
        call.received = received
        call.timer = self._reactor.callLater(QUIET, self._look, call)

    def _close(self, call: _Call) -> None:
        self._calls.discard(call)
        if call.timer is not None and call.timer.active():
            call.timer.cancel()
        call.puncher.stop()
        call.hole.close()
