"""The server's side of hole punching: acknowledge, then meet the client half-way."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import UDTHandshakeTimeout
from dwcloud.net.udp import SharedUDPPort
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import ConnectionRequested

__all__ = ["Puncher"]

_MAX_ADDRESSES = 8
"""Addresses of one client that are punched at; its message may list more."""
_MAX_PENDING = 500
"""Rendezvous that may be in progress at once."""

_MAX_MET = 10_000
"""Addresses of clients that are remembered."""


class Puncher:
    """Rendezvous towards clients, at most one for each of their addresses.

    :param factory: takes the connections that come about.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, port: SharedUDPPort, factory: IProtocolFactory
    ) -> None:
        self._reactor = reactor
        self._port = port
        self._factory = factory
        self._pending: dict[Address, Deferred[IProtocol]] = {}
        self._until: dict[Address, float] = {}
        self._met_at: OrderedDict[Address, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pending)

    def punch(self, request: ConnectionRequested) -> None:
        """Start a rendezvous to each address of the client."""
        until = self._reactor.seconds() + request.parameters.rendezvous_timeout
        for address in request.udp_endpoints[:_MAX_ADDRESSES]:
            # One that is pending goes on for the new session: a second one over
            # the same pair of addresses would confuse both.
            self._until[address] = until
            if address in self._pending:
                continue
            if len(self._pending) >= _MAX_PENDING:
                # The oldest has had the best part of its time.
                next(iter(self._pending.values())).cancel()
            self._begin(address)

    def knows(self, address: Address) -> bool:
        """Tell whether a client was met at that address."""
        return address in self._met_at

    def stop(self) -> None:
        """Give up what is pending."""
        self._until.clear()
        for pending in list(self._pending.values()):
            pending.cancel()

    def _begin(self, address: Address) -> None:
        timeout = self._until[address] - self._reactor.seconds()
        pending = self._port.udt.rendezvous(address, self._factory, timeout)
        self._pending[address] = pending
        pending.addCallbacks(
            self._met,
            self._missed,
            callbackArgs=(address,),
            errbackArgs=(address,),
        )

    def _met(self, _: IProtocol, address: Address) -> None:
        self._pending.pop(address, None)
        self._until.pop(address, None)
        self._met_at[address] = None
        self._met_at.move_to_end(address)
        while len(self._met_at) > _MAX_MET:
            self._met_at.popitem(last=False)
        self._log.info("met client at {address} over UDP", address=str(address))

    def _missed(self, reason: Failure, address: Address) -> None:
        self._pending.pop(address, None)
        until = self._until.get(address, 0.0)
        left = until - self._reactor.seconds()
        if left > 0.5 and reason.check(UDTHandshakeTimeout):
            # A later session of the same client asked for more time.
            self._begin(address)
            return
        self._until.pop(address, None)
        self._log.debug(
            "no rendezvous with {address}: {reason}",
            address=str(address),
            reason=reason.getErrorMessage(),
        )
