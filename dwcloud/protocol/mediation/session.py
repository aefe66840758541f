"""One connect session at the mediator: from the client's request to the answer.

The session hangs on the id that the client chose. Copies of the request, repeated
over UDP or doubled over TCP, all join the one session: each gets the answer, the
server is asked once.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from dwcloud.protocol.addresses import Address, is_global_ipv6, is_private_use
from dwcloud.protocol.mediation.admittance import Admittance
from dwcloud.protocol.mediation.attributes import MAX_ENDPOINTS
from dwcloud.protocol.mediation.messages import (
    Connect,
    ConnectionRequested,
    ConnectResponse,
)
from dwcloud.protocol.mediation.parameters import ConnectionParameters
from dwcloud.protocol.mediation.registry import ServerRecord
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.nat import NATSummary
from dwcloud.protocol.punching.probes import punch_key
from dwcloud.protocol.stun.message import STUNMessage

__all__ = [
    "MAX_COPIES",
    "ConnectSession",
    "ConnectSessionCore",
    "RequestCopy",
    "connect_session_machine",
]

MAX_COPIES = 8
"""Copies of a request that wait for the answer at a time; further ones get none."""


@attrs.frozen(eq=False)
class RequestCopy:
    """A copy of a ``connect`` that arrived.

    :ivar request: the message.
    :ivar source: the address it came from.
    :ivar observed: whether ``source`` is the client's punching address, that is
        whether it came over UDP.
    :ivar reply: sends the answer back on the way that it came.
    :ivar nat: what it says of the client's NAT.
    """

    request: STUNMessage
    source: Address
    observed: bool
    reply: Callable[[ConnectResponse], None]
    nat: NATSummary | None = None

    def repeats(self, other: RequestCopy) -> bool:
        """Tell whether this is a retransmission of ``other``: one answer does."""
        return (self.request.transaction_id, self.source) == (
            other.request.transaction_id,
            other.source,
        )


class ConnectSession(Protocol):
    """What happens in a session, in the past tense."""

    def server_chosen(self, server: ServerRecord) -> None:
        """A server that is online answers to the wanted name."""

    def server_missing(self, result: ResultCode) -> None:
        """There is no such server online."""

    def copy_received(self, copy: RequestCopy) -> None:
        """The request arrived, for the first time or once more."""

    def ack_received(self, punched: Address, local: tuple[Address, ...]) -> None:
        """The server confirmed, from this address."""

    def ack_unneeded(self) -> None:
        """The client wants no UDP addresses."""

    def ack_timed_out(self) -> None:
        """The server did not confirm in time."""

    def server_lost(self) -> None:
        """The server's control channel is gone."""


@attrs.define(eq=False)
class ConnectSessionCore:
    """What the machine acts on.

    :ivar request: what the client asked for.
    :ivar token: key of the ``connection_ack``.
    :ivar parameters: for both sides.
    :ivar relay_urls: for the client.
    :ivar on_answered: told once, with the answer.
    :ivar relay_grant: makes what relays want to see, for a server.
    :ivar admittance: the client's leave to connect.
    :ivar observed: the client's UDP address, once known.
    :ivar also_observed: that of the other version of IP, once known.
    :ivar mediator_endpoints: UDP addresses of the mediator, for the client.
    :ivar hosts: the IP addresses that copies of the request came from.
    :ivar proven_hosts: those of them from which it came over TCP.
    :ivar server: the server chosen.
    :ivar answer: what each copy gets, once decided.
    :ivar started: when the first copy of the request came, seconds.
    :ivar reported: whether the client has told the outcome.
    :ivar relayed: whether the last that it told is that a relay carries it.
    :ivar client_nat: what the client said of its NAT, by the address it said it from.
    :ivar server_nat: what the server said of its own.
    """

    request: Connect
    token: bytes = attrs.field(repr=False)
    parameters: ConnectionParameters
    relay_urls: tuple[str, ...]
    on_answered: Callable[[ConnectSessionCore, ConnectResponse], None]
    relay_grant: Callable[[uuid.UUID, PeerName], bytes | None] = lambda *_: None
    admittance: Admittance | None = None
    observed: Address | None = None
    also_observed: Address | None = None
    mediator_endpoints: tuple[Address, ...] = ()
    hosts: set[str] = attrs.field(factory=set)
    proven_hosts: set[str] = attrs.field(factory=set)
    server: ServerRecord | None = None
    answer: ConnectResponse | None = None
    started: float = 0.0
    reported: bool = False
    relayed: bool = False
    client_nat: tuple[str, NATSummary] | None = None
    server_nat: NATSummary | None = None
    copies: list[RequestCopy] = attrs.field(factory=list)

    @property
    def session_id(self) -> uuid.UUID:
        """The id that the client chose."""
        return self.request.session_id

    def ask_server(self) -> None:
        """Tell the server about the client, with all addresses known by now."""
        assert self.server is not None
        endpoints: dict[Address, None] = {}
        if not self.request.without_udp:
            claimed = filter(self._may_be_punched_at, self.request.udp_endpoints)
            endpoints = dict.fromkeys((*self._all_observed, *claimed))
        self.server.channel.request_connection(
            ConnectionRequested(
                session_id=self.session_id,
                token=self.token,
                client_name=self.request.client_name,
                udp_endpoints=tuple(endpoints)[:MAX_ENDPOINTS],
                parameters=self.parameters,
                nat=self.proven_nat,
                grant=self.admittance.for_server if self.admittance else None,
                unproven=self._unproven,
                server_first=self.request.server_first,
            )
        )

    @property
    def _all_observed(self) -> list[Address]:
        """Where the client was seen: the address of IPv4 first, which NATs concern."""
        seen = [a for a in (self.observed, self.also_observed) if a is not None]
        return sorted(seen, key=lambda address: address.family)

    @property
    def _unproven(self) -> Address | None:
        """An IPv6 address that the client says it has, if it was not seen at any.

        It may be a stranger's, so that the server sends one probe there. That opens a
        firewall which lets in answers, and is less than the request was.
        """
        if self.request.without_udp:
            return None
        if any(address.family == 6 for address in self._all_observed):
            return None
        claimed = filter(lambda a: is_global_ipv6(a.host), self.request.udp_endpoints)
        return next(claimed, None)

    @property
    def proven_nat(self) -> NATSummary | None:
        """What is known of the client's NAT, if the client is where it seems to be.

        It makes the server send more, and to ports that nobody named. So TCP has to
        show that the client's address is its own.
        """
        if self.client_nat is None or self.observed is None:
            return None
        host, nat = self.client_nat
        return nat if host == self._all_observed[0].host else None

    def note_server_nat(self, nat: NATSummary | None, source: Address) -> None:
        """Take what the server says of its NAT, if its address is proven by TCP."""
        if self.server is not None and self.server.host == source.host:
            self.server_nat = nat

    def _may_be_punched_at(self, address: Address) -> bool:
        """Whether an address that a client claims to have is worth believing.

        The server will send there, so that it must not be somebody else's: a host
        that the request came from over TCP, or one in the network that both are in. A
        request over UDP pays for the one address that it came from.
        """
        assert self.server is not None
        if address.host in self.proven_hosts:
            return True
        same_network = self.server.host in self.hosts or any(
            is_private_use(host) for host in self.hosts
        )
        return same_network and is_private_use(address.host)

    def note_source(self, copy: RequestCopy) -> bool:
        """Take the client's UDP address and NAT from a copy; tell whether of use."""
        self.hosts.add(copy.source.host)
        before = self._all_observed, self.proven_nat
        if not copy.observed:
            self.proven_hosts.add(copy.source.host)
            if copy.nat is not None:
                self.client_nat = copy.source.host, copy.nat
        elif self.observed is None:
            self.observed = copy.source
        elif self.also_observed is None and copy.source.family != self.observed.family:
            self.also_observed = copy.source
        return (self._all_observed, self.proven_nat) != before

    def wait(self, copy: RequestCopy) -> None:
        """Let a copy wait for the answer."""
        if len(self.copies) < MAX_COPIES and not any(
            copy.repeats(other) for other in self.copies
        ):
            self.copies.append(copy)

    def give_answer(self, answer: ConnectResponse) -> None:
        """Answer all copies."""
        self.answer = answer
        copies, self.copies = self.copies, []
        # First of all, so that logs have it before the client's have.
        self.on_answered(self, answer)
        for copy in copies:
            copy.reply(answer)

    def introduction(self, udp_endpoints: tuple[Address, ...]) -> ConnectResponse:
        """Return the answer that names all addresses of the server."""
        assert self.server is not None
        addresses = self.server.addresses
        other_ways = (
            addresses.tcp_endpoints or addresses.forwarded_endpoints or self.relay_urls
        )
        if not (udp_endpoints or other_ways or self.request.without_udp):
            return ConnectResponse(result=ResultCode.SERVER_DID_NOT_ANSWER)
        return ConnectResponse(
            result=ResultCode.OK,
            server=self.server.name,
            udp_endpoints=udp_endpoints,
            forwarded_endpoints=addresses.forwarded_endpoints,
            tcp_endpoints=addresses.tcp_endpoints,
            relay_urls=self.relay_urls,
            parameters=self.parameters,
            punch_key=punch_key(self.token, self.session_id) if udp_endpoints else None,
            nat=self.server_nat if udp_endpoints else None,
            grant=self.admittance.for_client if self.admittance else None,
            relay_grant=self.relay_grant(self.session_id, self.server.name)
            if self.relay_urls
            else None,
            mediator_endpoints=()
            if self.request.without_udp
            else self.mediator_endpoints,
        )


_builder = TypeMachineBuilder(ConnectSession, ConnectSessionCore)
_fresh = _builder.state("fresh")
_waiting = _builder.state("waiting for the server")
_answered = _builder.state("answered")


@_fresh.upon(ConnectSession.copy_received).loop()
def _first_copy(
    inputs: ConnectSession, core: ConnectSessionCore, copy: RequestCopy
) -> None:
    core.note_source(copy)
    core.wait(copy)


@_fresh.upon(ConnectSession.server_chosen).to(_waiting)
def _ask(
    inputs: ConnectSession, core: ConnectSessionCore, server: ServerRecord
) -> None:
    core.server = server
    core.ask_server()


@_fresh.upon(ConnectSession.server_missing).to(_answered)
def _no_server(
    inputs: ConnectSession, core: ConnectSessionCore, result: ResultCode
) -> None:
    core.give_answer(ConnectResponse(result=result))


@_waiting.upon(ConnectSession.copy_received).loop()
def _further_copy(
    inputs: ConnectSession, core: ConnectSessionCore, copy: RequestCopy
) -> None:
    core.wait(copy)
    # The double over TCP was faster: now the server learns where to punch to.
    if core.note_source(copy):
        core.ask_server()


@_waiting.upon(ConnectSession.ack_received).to(_answered)
def _confirmed(
    inputs: ConnectSession,
    core: ConnectSessionCore,
    punched: Address,
    local: tuple[Address, ...],
) -> None:
    endpoints = tuple(dict.fromkeys((punched, *local)))[:MAX_ENDPOINTS]
    core.give_answer(core.introduction(endpoints))


@_waiting.upon(ConnectSession.ack_unneeded).to(_answered)
def _without_udp(inputs: ConnectSession, core: ConnectSessionCore) -> None:
    core.give_answer(core.introduction(()))


# A server whose control channel broke may still be reached over TCP or a relay.
@_waiting.upon(ConnectSession.ack_timed_out).to(_answered)
@_waiting.upon(ConnectSession.server_lost).to(_answered)
def _not_confirmed(inputs: ConnectSession, core: ConnectSessionCore) -> None:
    core.give_answer(core.introduction(()))


@_answered.upon(ConnectSession.copy_received).loop()
def _late_copy(
    inputs: ConnectSession, core: ConnectSessionCore, copy: RequestCopy
) -> None:
    assert core.answer is not None
    copy.reply(core.answer)
    # The server confirmed and is punching to nowhere: tell it where to.
    if core.note_source(copy) and core.answer.udp_endpoints:
        core.ask_server()


# The answer is the answer: all copies must get the same.
@_answered.upon(ConnectSession.ack_received).loop()
def _late_ack(
    inputs: ConnectSession,
    core: ConnectSessionCore,
    punched: Address,
    local: tuple[Address, ...],
) -> None:
    pass


_answered.upon(ConnectSession.ack_unneeded).loop().returns(None)
_answered.upon(ConnectSession.ack_timed_out).loop().returns(None)
_answered.upon(ConnectSession.server_lost).loop().returns(None)

# A server is chosen once.
_waiting.upon(ConnectSession.server_chosen).loop().returns(None)
_waiting.upon(ConnectSession.server_missing).loop().returns(None)
_answered.upon(ConnectSession.server_chosen).loop().returns(None)
_answered.upon(ConnectSession.server_missing).loop().returns(None)

# Before a server is chosen nothing can come of it.
_fresh.upon(ConnectSession.ack_received).loop().returns(None)
_fresh.upon(ConnectSession.ack_unneeded).loop().returns(None)
_fresh.upon(ConnectSession.ack_timed_out).loop().returns(None)
_fresh.upon(ConnectSession.server_lost).loop().returns(None)

connect_session_machine = _builder.build()
"""Builds a :class:`ConnectSession` from a :class:`ConnectSessionCore`."""
