"""An introduction in three steps, the last of which shows the client's address.

Until then the mediator cannot tell it to the server: so the client says when the
server begins to send (docs/protocol/punching).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from dwcloud.peer.guessing import Hole
from dwcloud.peer.introduction import ask_over_tcp
from dwcloud.peer.mediator_udp import MediatorUDP
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import Connect, ConnectResponse
from dwcloud.protocol.stun.binding import binding_request
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.transaction import Timing

__all__ = ["QuietIntroduction"]

_TIMING = Timing(tries=3, initial_interval=0.3, last_wait=0.6)
"""Questions at 0, 0.3 and 0.9 s: UDP gets through, or nothing comes of all this."""


class QuietIntroduction:
    """Asks a mediator for one server, from a hole.

    All steps fail with an error of :mod:`dwcloud.errors` or of Twisted's, and can be
    cancelled.

    :param mediator: where it takes UDP.
    :param ways: lead to the mediator over TCP.
    :param request: what is asked, over TCP and UDP alike.
    :param limit: seconds for the answer over TCP.
    """

    def __init__(
        self,
        reactor: Any,
        mediator: MediatorUDP,
        ways: IStreamClientEndpoint,
        request: Connect,
        hole: Hole,
        *,
        limit: float,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._reactor = reactor
        self._mediator = mediator
        self._ways = ways
        self._request = request
        self._hole = hole
        self._limit = limit
        self._random_bytes = random_bytes

    @property
    def session(self) -> uuid.UUID:
        """The connect session id."""
        return self._request.session_id

    async def map_hole(self) -> None:
        """Have the NAT give the hole a port towards the mediator, before any other.

        Ports that are given out in sequence are counted from there.
        """
        family = self._hole.port.getHost().family
        self._address: Address = await self._mediator.resolve(family)
        await self._ask_over_udp(binding_request(self._random_bytes(12)))

    async def ask(self) -> ConnectResponse:
        """Ask for the server, which is not told yet where this client is."""
        message = self._request.to_stun(self._random_bytes(12))
        asking = ask_over_tcp(self._reactor, self._ways, message)
        answer = await asking.addTimeout(self._limit, self._reactor)
        return ConnectResponse.from_stun(answer)

    async def show(self) -> None:
        """Show the mediator the hole's address, which it tells the server at once."""
        await self._ask_over_udp(self._request.to_padded_stun(self._random_bytes(12)))

    def _ask_over_udp(self, message: STUNMessage) -> Deferred[STUNMessage]:
        return self._hole.stun.request(message, self._address, timing=_TIMING)
