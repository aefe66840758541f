"""What to do beyond probing, from what both ends know of their NATs.

A symmetric NAT shows a port that nobody has seen yet. Where the other end filters by
port, one of the two has to guess it: the next one of a sequence, or, among random
ones, any of many that the symmetric side holds open (docs/protocol/punching).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.nat import Filtering, NATSummary

__all__ = [
    "NO_PLAN",
    "PREDICTED",
    "Plan",
    "make_plan",
    "may_be_called",
    "predicted",
    "random_ports",
]

PREDICTED = 8
"""Ports of a sequence that are tried."""
_ROUNDS = 3
_PORTS = range(1024, 65536)
"""What NATs give out (RFC 4787, REQ-3)."""


@attrs.frozen
class Plan:
    """What one end does.

    :ivar step: try the next ports in a sequence of the peer's; 0 does not.
    :ivar spray: try random ports of the peer's.
    :ivar many: open many sockets, for the peer to hit one.
    """

    step: int = 0
    spray: bool = False
    many: bool = False


NO_PLAN = Plan()


def make_plan(own: NATSummary | None, peer: NATSummary | None) -> Plan:
    """Choose what one end does; the other end, asked the other way round, matches.

    :param own: what is known of one's own NAT.
    :param peer: what the peer says of its.
    """
    if peer is None:
        return NO_PLAN
    if own is None:
        # A few ports in a sequence are worth trying in any case.
        return Plan(step=peer.port_step if peer.is_symmetric else 0)
    if own.is_symmetric == peer.is_symmetric:
        return NO_PLAN
    symmetric, fixed = (own, peer) if own.is_symmetric else (peer, own)
    if fixed.filtering in (
        Filtering.ENDPOINT_INDEPENDENT,
        Filtering.ADDRESS_DEPENDENT,
    ):
        # It lets in what comes from any port of the peer: nothing is to be guessed.
        return NO_PLAN
    if symmetric.port_step:
        return Plan(step=symmetric.port_step) if own is fixed else NO_PLAN
    return Plan(spray=own is fixed, many=own is symmetric)


def may_be_called(own: NATSummary | None, peer: NATSummary | None) -> bool:
    """Tell whether it may help that the server sends first (docs/protocol/punching).

    It does where one end at most has ports that have to be guessed, and can be.
    """
    symmetric = [nat for nat in (own, peer) if nat is not None and nat.is_symmetric]
    return len(symmetric) < 2 and all(nat.port_step for nat in symmetric)


def predicted(
    address: Address, step: int, ports: int = PREDICTED, rounds: int = _ROUNDS
) -> Iterator[Address]:
    """Give the addresses that come after one in a sequence, three times over.

    :param ports: how many there are.
    :param rounds: how often each is given.
    """
    numbers = (address.port + step * number for number in range(1, ports + 1))
    likely = [Address(address.host, port) for port in numbers if port in _PORTS]
    for _ in range(rounds):
        yield from likely


def random_ports(
    address: Address, random_bytes: Callable[[int], bytes]
) -> Iterator[Address]:
    """Give all ports of a host in random order, each once.

    :param random_bytes: a source of randomness.
    """
    moved: dict[int, int] = {}
    for left in range(len(_PORTS), 0, -1):
        # A shuffle that keeps only what has been moved. The numbers of 8 bytes are
        # so many that the rest of the division does not matter.
        chosen = int.from_bytes(random_bytes(8)) % left
        yield Address(address.host, _PORTS[moved.get(chosen, chosen)])
        moved[chosen] = moved.get(left - 1, left - 1)
