"""What findings mean: whether a connection is possible, why so, and what to change.

A pure function of :class:`~dwcloud.peer.findings.Findings`.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from dwcloud.peer.advice import advice, mediator_works, unknown
from dwcloud.peer.expectations import (
    Expectation,
    expectations,
    explain,
    relay_works,
)
from dwcloud.peer.findings import Findings, PeerFinding, PeerState
from dwcloud.peer.nat_words import (
    UDP_BLOCKED,
    UNKNOWN,
    describe,
    kind_of,
)
from dwcloud.peer.status import PathKind
from dwcloud.protocol.punching.prospects import End, Prospect, prospect

__all__ = ["Diagnosis", "diagnose"]


@attrs.frozen(kw_only=True)
class Diagnosis:
    """What findings mean.

    :ivar possible: whether a connection can be made: the one that was asked for, or
        any.
    :ivar kind: of the NAT, by its usual name.
    :ivar nat: the same in plain words.
    :ivar verdict: one sentence.
    :ivar path: that a connection to the server takes; None without one.
    :ivar why: sentences that give the reasons.
    :ivar advice: sentences that say what to change, the most useful first.
    :ivar unknown: what could not be found out, and what would tell.
    :ivar expectations: of connections to anybody.
    """

    possible: bool
    kind: str
    nat: str
    verdict: str
    path: str | None = None
    why: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    expectations: tuple[Expectation, ...] = ()


_SOME_NAT = "There is a NAT; how it treats UDP could not be found out."


def diagnose(findings: Findings) -> Diagnosis:
    """Make sense of findings."""
    nat = findings.outer_nat
    kind = kind_of(nat)
    translated = kind == UNKNOWN and nat is not None and nat.translated
    peer = findings.peer
    if peer is None:
        possible, verdict = _verdict_for_all(findings)
        why: list[str] = []
        path = None
    else:
        possible = peer.state is PeerState.CONNECTED
        verdict, why = _VERDICTS[peer.state](findings, peer)
        path = None if peer.report.path is None else peer.report.path.value
    return Diagnosis(
        possible=possible,
        kind=kind,
        nat=_SOME_NAT if translated else describe(kind),
        verdict=verdict,
        path=path,
        why=tuple(why),
        advice=tuple(dict.fromkeys(advice(findings))),
        unknown=tuple(unknown(findings)),
        expectations=expectations(findings) if peer is None else (),
    )


# Without a server


def _verdict_for_all(findings: Findings) -> tuple[bool, str]:
    heard = len(findings.lan.servers)
    lan = f"to {heard} server{'s' if heard > 1 else ''} in this network"
    if not findings.mediator:
        if heard:
            return True, f"Connections are possible {lan}; no mediator is named."
        return False, (
            "No connection is possible: no mediator is named, and no server was heard "
            "in this network."
        )
    if not mediator_works(findings):
        if heard:
            return True, f"Only connections {lan} are possible: {_NO_MEDIATOR}."
        return False, f"No connection is possible: {_NO_MEDIATOR}."
    return _verdict_by_paths(bool(findings.udp.works), relay_works(findings))


_NO_MEDIATOR = (
    "the mediator is not reached, neither over UDP nor over TCP nor inside HTTP"
)


def _verdict_by_paths(udp: bool, relay: bool) -> tuple[bool, str]:
    if udp and relay:
        return True, "Connections are possible, directly or through a relay."
    if udp:
        return True, (
            "Direct connections are possible, with most networks; no relay is reached "
            "that would carry the others."
        )
    if relay:
        return True, (
            "Connections are possible through a relay; direct ones over UDP are not."
        )
    return False, (
        "No connection can be relied on: UDP does not pass, and no relay is reached. "
        "Only servers with a public address may be."
    )


# With a server


def _connected(findings: Findings, peer: PeerFinding) -> tuple[str, list[str]]:
    report = peer.report
    words = {
        PathKind.LAN: "in the local network",
        PathKind.TCP: "directly over TCP",
        PathKind.UDP: "directly over UDP, through a hole in the NATs",
        PathKind.RELAY: "through a relay",
    }
    assert report.path is not None
    over_ipv6 = (report.remote_address or "").startswith("[")
    if over_ipv6:
        words[PathKind.UDP] = "directly over UDP, by IPv6"
        words[PathKind.TCP] = "directly over TCP, by IPv6"
    verdict = (
        f"A connection to the server goes {words[report.path]}; it took "
        f"{report.connect_seconds:.2f} s."
    )
    if report.path is PathKind.LAN:
        return verdict, ["The server was heard in the same network."]
    if report.path is PathKind.TCP:
        return verdict, [
            "The server has an address that TCP from here leads to: a public one, one "
            "in this network, or a port that its router forwards."
        ]
    if report.path is PathKind.UDP and over_ipv6:
        return verdict, [
            "Both ends have IPv6, where no NAT is in the way; what firewalls there are "
            "let in answers."
        ]
    if report.path is PathKind.UDP:
        return verdict, [_why_udp(findings, peer)]
    return verdict, list(_why_relayed(findings, peer))


def _pair(findings: Findings, peer: PeerFinding) -> Prospect | None:
    own = None if findings.outer_nat is None else findings.outer_nat.summary()
    if own is None or peer.nat is None:
        return None
    return prospect(End(own), End(peer.nat))


def _why_udp(findings: Findings, peer: PeerFinding) -> str:
    found = _pair(findings, peer)
    if found is None or peer.nat is None:
        return "Packets of both ends get through to each other."
    here, there = kind_of(findings.outer_nat), peer.nat.kind
    return f"NAT here {here}, there {there}: {explain(found)}."


def _why_relayed(findings: Findings, peer: PeerFinding) -> Iterator[str]:
    nat = findings.outer_nat
    if kind_of(nat) == UDP_BLOCKED or findings.udp.works is False:
        yield "No UDP gets out of this network, so there is no hole to punch."
    if not peer.udp_endpoints:
        yield (
            "The server could not be asked over UDP: there, UDP is blocked on the way "
            "to the mediator."
        )
    elif nat is not None and nat.mapped_address is not None:
        if peer.udp_endpoints[0].host == nat.mapped_address.host:
            yield (
                "Both ends are behind the same public address, whose router "
                + (
                    "does not send packets back into the network they come from."
                    if nat.hairpinning is False
                    else "keeps them apart."
                )
            )
        elif (found := _pair(findings, peer)) is not None and peer.nat is not None:
            here, there = kind_of(nat), peer.nat.kind
            if found is Prospect.DIRECT:
                yield (
                    f"NAT here {here}, there {there}: a direct path should work. The "
                    "relay was ready sooner, or a firewall on the way drops UDP; "
                    "later streams may go directly."
                )
            else:
                yield f"NAT here {here}, there {there}: {explain(found)}."
        elif findings.udp.works:
            yield (
                "Packets of the two ends did not get through to each other in time; "
                "how the NATs behave is not known well enough to say why."
            )
    if findings.ipv6.used and peer.has_ipv6:
        yield (
            "Both ends have addresses of IPv6, but packets did not get through there "
            "either, or the relay was ready sooner."
        )
    if not peer.tcp_endpoints:
        yield "The server has no TCP address to connect to."
    else:
        yield "TCP to the server's own addresses leads nowhere from here."


def _unreachable(findings: Findings, peer: PeerFinding) -> tuple[str, list[str]]:
    if peer.step == "confirmation":
        return (
            "The server is online, but unreachable: it did not confirm the request.",
            [
                "The mediator has a connection to the server, which did not answer on "
                "it in time."
            ],
        )
    if peer.step == "identity":
        return (
            "The server is online, but unreachable: something else answers for it.",
            [
                "What was reached could not prove to be this server; nothing was sent "
                "to it."
            ],
        )
    why = list(_why_relayed(findings, peer))
    if not relay_works(findings):
        why.append("No relay was reached that would carry the stream.")
    return "The server is online, but unreachable: every path failed.", why


def _offline(findings: Findings, peer: PeerFinding) -> tuple[str, list[str]]:
    return (
        "The server is offline: it has no contact with the mediator.",
        ["The mediator knows the server, which has no connection to it now."],
    )


def _stranger(findings: Findings, peer: PeerFinding) -> tuple[str, list[str]]:
    return (
        "The mediator does not know the server.",
        ["It has not been online at this mediator, or the name is mistyped."],
    )


def _not_asked(findings: Findings, peer: PeerFinding) -> tuple[str, list[str]]:
    if not findings.mediator:
        return (
            "The server was not heard in this network, and no mediator is named.",
            [],
        )
    if mediator_works(findings):
        return (
            "Whether the server is online is not known: the mediator did not answer "
            "the request.",
            [f"What happened: {peer.report.error}."] if peer.report.error else [],
        )
    return (
        "Whether the server is online is not known: the mediator is not reached.",
        [],
    )


_VERDICTS = {
    PeerState.CONNECTED: _connected,
    PeerState.UNREACHABLE: _unreachable,
    PeerState.OFFLINE: _offline,
    PeerState.UNKNOWN: _stranger,
    PeerState.NOT_ASKED: _not_asked,
}
