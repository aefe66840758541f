"""Which path a connection can be expected to take, before there is one."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from dwcloud.peer.findings import Findings
from dwcloud.protocol.nat import Filtering, Mapping, NATSummary
from dwcloud.protocol.punching.prospects import End, Prospect, prospect

__all__ = ["FAR_ENDS", "Expectation", "expectations", "explain", "relay_works"]

_FIXED = Mapping.ENDPOINT_INDEPENDENT
_VARYING = Mapping.ADDRESS_AND_PORT_DEPENDENT
_STRICT = Filtering.ADDRESS_AND_PORT_DEPENDENT

FAR_ENDS: tuple[tuple[str, str, NATSummary], ...] = (
    (
        "full-cone",
        "a router that lets in everything (full cone)",
        NATSummary(_FIXED, Filtering.ENDPOINT_INDEPENDENT),
    ),
    (
        "addr-restricted",
        "a router that lets in by address",
        NATSummary(_FIXED, Filtering.ADDRESS_DEPENDENT),
    ),
    (
        "port-restricted",
        "a usual router or firewall (port-restricted)",
        NATSummary(_FIXED, _STRICT),
    ),
    (
        "symmetric-seq",
        "a symmetric NAT, ports in sequence",
        NATSummary(_VARYING, _STRICT, 1),
    ),
    (
        "symmetric",
        "a symmetric NAT, random ports",
        NATSummary(_VARYING, _STRICT),
    ),
)
"""Kinds of far ends behind NATs: key, words, behaviour."""

_WORDS = {
    Prospect.DIRECT: "both ends send at once and each lets the other in",
    Prospect.RACE: "it depends on whose packets are first; where it goes wrong the "
    "relay carries the stream until the server has been made to send first",
    Prospect.PREDICTED: "the next port of a sequence has to be guessed, which takes "
    "a moment; the relay carries the stream until then",
    Prospect.GUESSED: "one of many random ports has to be hit, which takes seconds; "
    "the relay carries the first stream, later ones go directly",
    Prospect.RELAYED: "neither end can know from which port the other sends",
}


@attrs.frozen(kw_only=True)
class Expectation:
    """What can be expected towards one kind of far end.

    :ivar far_end: the kind: ``public``, ``ipv6``, a name of :data:`FAR_ENDS`,
        ``udp-blocked``.
    :ivar words: the same for people.
    :ivar path: ``tcp``, ``udp``, ``relay``, ``relay, then udp``, ``udp or relay``, or
        ``none``.
    :ivar why: a piece of a sentence.
    """

    far_end: str
    words: str
    path: str
    why: str


def relay_works(findings: Findings) -> bool:
    """Whether a relay was reached in some way."""
    by_method = any(m.works for m in findings.methods if m.service == "relay")
    return by_method or any(relay.reach.works for relay in findings.relays)


def explain(found: Prospect) -> str:
    """Return why a pair of NATs has a prospect."""
    return _WORDS[found]


def expectations(findings: Findings) -> tuple[Expectation, ...]:
    """Return what can be expected towards each kind of far end."""
    if not findings.mediator:
        return ()
    return (
        _public(findings),
        *_ipv6(findings),
        *(_behind(findings, *far_end) for far_end in FAR_ENDS),
        _relayed(findings, "udp-blocked", "a network without UDP", "UDP is needed"),
    )


def _relayed(findings: Findings, key: str, words: str, why: str) -> Expectation:
    if relay_works(findings):
        return Expectation(far_end=key, words=words, path="relay", why=why)
    why += ", and no relay is reached"
    return Expectation(far_end=key, words=words, path="none", why=why)


def _public(findings: Findings) -> Expectation:
    key, words = "public", "a public address or a forwarded port"
    direct = any(
        m.works and m.method == "direct" and m.carrier == "direct"
        for m in findings.methods
    )
    if direct:
        why = "TCP gets out of this network"
        return Expectation(far_end=key, words=words, path="tcp", why=why)
    if _udp(findings):
        why = "UDP gets out of this network"
        return Expectation(far_end=key, words=words, path="udp", why=why)
    why = "nothing but the web gets out of this network"
    return _relayed(findings, key, words, why)


def _ipv6(findings: Findings) -> Iterator[Expectation]:
    """What can be expected where both ends have IPv6, if this one has."""
    if not findings.ipv6.used or findings.udp.works is False:
        return
    key, words = "ipv6", "any of these, if there is IPv6 as well"
    path, why = "udp", "no NAT of IPv6 is in the way, and firewalls are punched"
    if not findings.ipv6.mediator.works:
        path = "udp or relay" if relay_works(findings) else "udp or none"
        why = (
            "this machine has IPv6, but the mediator does not answer over it, so that "
            "nothing shows whether it leads out"
        )
    yield Expectation(far_end=key, words=words, path=path, why=why)


def _udp(findings: Findings) -> bool:
    nat = findings.nat
    return bool(findings.udp.works) or (nat is not None and nat.udp)


def _behind(
    findings: Findings, key: str, words: str, far_end: NATSummary
) -> Expectation:
    if not _udp(findings):
        why = "no UDP gets out of this network"
        return _relayed(findings, key, words, why)
    own = None if findings.outer_nat is None else findings.outer_nat.summary()
    if own is None:
        why = "how this network treats UDP is not known"
        path = "udp or relay" if relay_works(findings) else "udp or none"
        return Expectation(far_end=key, words=words, path=path, why=why)
    found = prospect(End(own), End(far_end))
    if found is Prospect.DIRECT:
        return Expectation(far_end=key, words=words, path="udp", why=explain(found))
    if found is Prospect.RELAYED:
        return _relayed(findings, key, words, explain(found))
    path = "relay, then udp" if relay_works(findings) else "udp or none"
    return Expectation(far_end=key, words=words, path=path, why=explain(found))
