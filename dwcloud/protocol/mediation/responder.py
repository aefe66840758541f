"""The server's side of an introduction: confirm to the mediator, punch to the client.

Confirmation first: the client begins as soon as the mediator has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import ConnectionAck, ConnectionRequested
from dwcloud.protocol.nat import NATSummary

__all__ = ["MAX_PUNCHED", "Response", "ResponseCore", "response_machine"]

MAX_PUNCHED = 32
"""Addresses that one session may make a server send to."""


class Response(Protocol):
    """What happens to a request at the server, in the past tense."""

    def requested(self, request: ConnectionRequested) -> None:
        """The mediator announced a client, or told more of it."""

    def ack_accepted(self) -> None:
        """The mediator has the confirmation."""

    def ack_refused(self) -> None:
        """The mediator does not know of the session any more."""

    def ack_timed_out(self) -> None:
        """The mediator did not answer the confirmation."""

    def ended(self) -> None:
        """The server connected to the client, or gave up."""


@attrs.define
class ResponseCore:
    """What the machine acts on.

    :ivar local_endpoints: of the socket that punches.
    :ivar acknowledge: sends a ``connection_ack`` protected by a token, over UDP with
        retransmissions; its outcome comes back as an input.
    :ivar punch: starts a rendezvous with each address; told at first, even if there
        is none, and of further addresses later; never told one twice. Told without
        any when there is news of the client's NAT.
    :ivar abandon: stops everything: the client will not come.
    :ivar withdraw: stops the retransmissions of the confirmation.
    :ivar nat: what is known of the server's NAT.
    :ivar punched: the addresses told so far.
    """

    local_endpoints: tuple[Address, ...]
    acknowledge: Callable[[ConnectionAck, bytes], None]
    punch: Callable[[ConnectionRequested, tuple[Address, ...]], None]
    abandon: Callable[[], None]
    withdraw: Callable[[], None]
    nat: NATSummary | None = None
    punched: dict[Address, None] = attrs.field(factory=dict)

    def new_addresses(self, request: ConnectionRequested) -> tuple[Address, ...]:
        """Return the addresses of a request that are news, and remember them."""
        room = MAX_PUNCHED - len(self.punched)
        new = tuple(a for a in request.udp_endpoints if a not in self.punched)[:room]
        self.punched.update(dict.fromkeys(new))
        return new


_builder = TypeMachineBuilder(Response, ResponseCore)
_fresh = _builder.state("fresh")
_confirming = _builder.state("confirming")
_confirmed = _builder.state("confirmed")
_unconfirmed = _builder.state("unconfirmed")
_over = _builder.state("over")


@_fresh.upon(Response.requested).to(_confirming)
def _respond(
    inputs: Response, core: ResponseCore, request: ConnectionRequested
) -> None:
    # First the confirmation: the client waits for it.
    core.acknowledge(
        ConnectionAck(
            session_id=request.session_id,
            udp_endpoints=core.local_endpoints,
            nat=core.nat,
        ),
        request.token,
    )
    core.punch(request, core.new_addresses(request))


@_confirming.upon(Response.requested).loop()
@_confirmed.upon(Response.requested).loop()
@_unconfirmed.upon(Response.requested).loop()
def _more_addresses(
    inputs: Response, core: ResponseCore, request: ConnectionRequested
) -> None:
    new = core.new_addresses(request)
    if new or request.nat is not None:
        core.punch(request, new)


_confirming.upon(Response.ack_accepted).to(_confirmed).returns(None)
# The answer may have been lost and not the confirmation: the client may come.
_confirming.upon(Response.ack_timed_out).to(_unconfirmed).returns(None)


@_confirming.upon(Response.ack_refused).to(_over)
def _refused(inputs: Response, core: ResponseCore) -> None:
    core.abandon()


@_confirming.upon(Response.ended).to(_over)
def _withdraw(inputs: Response, core: ResponseCore) -> None:
    core.withdraw()


_confirmed.upon(Response.ended).to(_over).returns(None)
_unconfirmed.upon(Response.ended).to(_over).returns(None)
_fresh.upon(Response.ended).to(_over).returns(None)

# A confirmation is sent once, and has one outcome.
for _state in (_fresh, _confirmed, _unconfirmed, _over):
    _state.upon(Response.ack_accepted).loop().returns(None)
    _state.upon(Response.ack_refused).loop().returns(None)
    _state.upon(Response.ack_timed_out).loop().returns(None)
# What is over stays over.
_over.upon(Response.requested).loop().returns(None)
_over.upon(Response.ended).loop().returns(None)

response_machine = _builder.build()
"""Builds a :class:`Response` from a :class:`ResponseCore`."""
