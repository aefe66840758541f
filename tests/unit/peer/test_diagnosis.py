"""What findings are taken to mean."""

from __future__ import annotations

import itertools
import json

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.check_report import as_json, render
from dwcloud.peer.advice import behind_carrier
from dwcloud.peer.diagnosis import Diagnosis, diagnose
from dwcloud.peer.expectations import FAR_ENDS, explain
from dwcloud.peer.findings import (
    Findings,
    IPv6Finding,
    LANFinding,
    MappingFinding,
    MethodFinding,
    PeerFinding,
    PeerState,
    ProxyFinding,
    Reach,
    RelayFinding,
)
from dwcloud.peer.nat_words import kind_of
from dwcloud.peer.status import AttemptFailure, ConnectionReport, PathKind
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.nat import Filtering, Mapping, NATBehaviour, NATSummary
from dwcloud.protocol.punching.prospects import Prospect
from dwcloud.testing import NAT_KINDS
from dwcloud.testing.nat import PortAllocation
from tests.nat_table import KINDS, can_be_guessed, entry

INSIDE, OUTSIDE = Address("192.168.1.2", 4000), Address("198.51.100.1", 4000)
FAR = Address("198.51.100.2", 5000)
WORKS = Reach(works=True, seconds=0.02, address=OUTSIDE)
FAILS = Reach(works=False, reason="no answer")
DIRECT_TCP = MethodFinding(
    service="mediator",
    url="tcp://m:3345",
    method="direct",
    carrier="direct",
    works=True,
)
RELAY = RelayFinding(url="http://m:3349", reach=Reach(works=True, seconds=0.02))


def behaviour_of(kind: str) -> NATBehaviour:
    """What is found out behind a kind of the table."""
    made = NAT_KINDS.get(kind)
    if made is None:
        strict = Filtering.ADDRESS_AND_PORT_DEPENDENT
        return NATBehaviour(
            local_address=OUTSIDE,
            mapped_address=OUTSIDE,
            mapping=Mapping.ENDPOINT_INDEPENDENT,
            filtering=Filtering.ENDPOINT_INDEPENDENT if kind == "open" else strict,
            port_preservation=True,
            hairpinning=False,
            port_step=0,
        )
    sequential = made.port_allocation is PortAllocation.SEQUENTIAL
    return NATBehaviour(
        local_address=INSIDE,
        mapped_address=OUTSIDE,
        mapping=made.mapping,
        filtering=made.filtering,
        port_preservation=made.port_allocation is PortAllocation.PRESERVE,
        hairpinning=made.hairpinning,
        port_step=made.port_step if sequential else 0,
    )


def findings_of(kind: str, peer: PeerFinding | None = None) -> Findings:
    """What is found where everything else is in order."""
    return Findings(
        mediator="m:3345",
        nat=behaviour_of(kind),
        udp=WORKS,
        tcp=WORKS,
        methods=(DIRECT_TCP,),
        relays=(RELAY,),
        peer=peer,
    )


def report_of(
    path: PathKind | None, failures: tuple[AttemptFailure, ...] = ()
) -> ConnectionReport:
    """A report of a connection by such a path."""
    return ConnectionReport(
        event="connected" if path else "failed",
        peer="server.system",
        service="",
        path=path,
        remote_address=None if path is None else str(FAR),
        connect_seconds=0.1,
        failures=failures,
        error=None if path else "no path",
    )


def peer_of(kind: str, path: PathKind | None) -> PeerFinding:
    """What is found of a server behind a kind of the table."""
    return PeerFinding(
        state=PeerState.CONNECTED if path else PeerState.UNREACHABLE,
        step="" if path else "paths",
        report=report_of(path),
        nat=behaviour_of(kind).summary(),
        udp_endpoints=(FAR,),
        tcp_endpoints=(Address("192.168.1.10", 4000),),
    )


def prospect_of(one: str, other: str) -> Prospect:
    """What the table says of two kinds, as far as can be found out.

    A router without a firewall looks as any other: nobody can tell from inside.
    """
    one, other = (k.replace("linux-nofw", "port-restricted") for k in (one, other))
    named = {"ok": Prospect.DIRECT, "pred": Prospect.PREDICTED}.get(entry(one, other))
    if named is not None:
        return named
    guessed = can_be_guessed(one, other)
    return Prospect.GUESSED if guessed else Prospect.RELAYED


class PairTests(SynchronousTestCase):
    """All pairs of NATs."""

    def test_why(self) -> None:
        """The reason given for each pair is that of the theory."""
        for here, there in itertools.product(KINDS, KINDS):
            with self.subTest(here=here, there=there):
                expected = prospect_of(here, there)
                path = PathKind.UDP
                if expected is not Prospect.DIRECT:
                    path = PathKind.RELAY
                found = diagnose(findings_of(here, peer_of(there, path)))
                self.assertTrue(found.possible)
                self.assertEqual(found.path, path.value)
                self.assertIn(explain(expected), " ".join(found.why))

    def test_symmetric_server(self) -> None:
        """Who is relayed because of the server's NAT is told what helps there."""
        for there in KINDS:
            found = diagnose(findings_of("symmetric", peer_of(there, PathKind.RELAY)))
            advised = any(text.startswith("At the server") for text in found.advice)
            self.assertEqual(advised, there.startswith("symmetric"), there)

    def test_surprise(self) -> None:
        """A relayed pair that should be direct is called that."""
        peer = peer_of("full-cone", PathKind.RELAY)
        found = diagnose(findings_of("port-restricted", peer))
        self.assertIn("a direct path should work", " ".join(found.why))

    def test_expectations(self) -> None:
        """Without a server, each kind of far end has the path of the table."""
        paths = {
            Prospect.DIRECT: "udp",
            Prospect.PREDICTED: "relay, then udp",
            Prospect.GUESSED: "relay, then udp",
            Prospect.RELAYED: "relay",
        }
        for here in KINDS:
            found = diagnose(findings_of(here))
            expected = {key: paths[prospect_of(here, key)] for key, _, _ in FAR_ENDS}
            expected |= {"public": "tcp", "udp-blocked": "relay"}
            told = {e.far_end: e.path for e in found.expectations}
            self.assertEqual(told, expected, here)

    def test_kinds(self) -> None:
        """Every kind has its name back, as far as it can be told."""
        others = {"open": "none", "linux-nofw": "port-restricted"}
        for kind in KINDS:
            self.assertEqual(kind_of(behaviour_of(kind)), others.get(kind, kind))


class VerdictTests(SynchronousTestCase):
    """Single cases, and what is said to people."""

    def test_same_router(self) -> None:
        """Two ends behind one router that does not turn packets round."""
        nat = behaviour_of("port-restricted")
        peer = PeerFinding(
            state=PeerState.CONNECTED,
            report=report_of(PathKind.RELAY),
            nat=nat.summary(),
            udp_endpoints=(Address(OUTSIDE.host, 4001), INSIDE),
        )
        found = diagnose(findings_of("port-restricted", peer))
        self.assertIn("same public address", found.why[0])

    def test_no_udp_there(self) -> None:
        """A server that did not confirm over UDP."""
        peer = PeerFinding(state=PeerState.CONNECTED, report=report_of(PathKind.RELAY))
        found = diagnose(findings_of("port-restricted", peer))
        self.assertIn("could not be asked over UDP", found.why[0])
        self.assertIn("where the server is", found.advice[0])

    def test_states(self) -> None:
        """Offline, unknown and unreachable are told apart, and none is possible."""
        cases = {
            (PeerState.OFFLINE, "registration"): "offline",
            (PeerState.UNKNOWN, "registration"): "does not know",
            (PeerState.UNREACHABLE, "confirmation"): "did not confirm",
            (PeerState.UNREACHABLE, "identity"): "something else answers",
            (PeerState.UNREACHABLE, "paths"): "every path failed",
            (PeerState.NOT_ASKED, "mediator"): "not known",
        }
        for (state, step), words in cases.items():
            peer = PeerFinding(state=state, step=step, report=report_of(None))
            found = diagnose(findings_of("port-restricted", peer))
            self.assertFalse(found.possible)
            self.assertIn(words, found.verdict)
            self.assertIsNone(found.path)

    def test_ipv6(self) -> None:
        """What IPv6 at either end comes to, and where it should be turned on."""
        far = Address("2a00:1450:1::10", 4000)
        here = IPv6Finding(addresses=("2a00:1450:2::10",), used=True, mediator=WORKS)
        relayed = peer_of("symmetric", PathKind.RELAY)
        there = attrs.evolve(relayed, udp_endpoints=(*relayed.udp_endpoints, far))
        findings = findings_of("symmetric", there)
        self.assertIn(
            "in this network: the server", " ".join(diagnose(findings).advice)
        )
        findings = attrs.evolve(findings, ipv6=here)
        found = diagnose(findings)
        self.assertIn("Both ends have addresses of IPv6", " ".join(found.why))
        self.assertNotIn("IPv6", " ".join(found.advice))
        found = diagnose(attrs.evolve(findings, peer=relayed))
        self.assertIn("IPv6 where the server is", " ".join(found.advice))
        direct = attrs.evolve(report_of(PathKind.UDP), remote_address=str(far))
        there = attrs.evolve(there, state=PeerState.CONNECTED, report=direct)
        found = diagnose(attrs.evolve(findings, peer=there))
        self.assertIn("directly over UDP, by IPv6", found.verdict)
        self.assertIn("no NAT is in the way", found.why[0])

    def test_expectation_of_ipv6(self) -> None:
        """It is direct if the mediator answers over it, and may be if it has none."""
        findings = findings_of("symmetric")
        ours = IPv6Finding(addresses=("2a00:1450:2::10",), used=True, mediator=WORKS)
        unseen = attrs.evolve(ours, mediator=Reach(works=False, reason="no address"))
        unused = attrs.evolve(ours, used=False)
        expected = ((ours, "udp"), (unseen, "udp or relay"), (unused, None))
        for ipv6, path in expected:
            found = diagnose(attrs.evolve(findings, ipv6=ipv6))
            paths = {e.far_end: e.path for e in found.expectations}
            self.assertEqual(paths.get("ipv6"), path)
        blocked = attrs.evolve(findings, ipv6=ours, udp=Reach(works=False, reason="no"))
        found = diagnose(blocked)
        self.assertNotIn("ipv6", {e.far_end for e in found.expectations})

    def test_direct_needs_no_advice(self) -> None:
        """Who has the best path is not told to change anything."""
        for path in (PathKind.LAN, PathKind.TCP, PathKind.UDP):
            found = diagnose(findings_of("symmetric", peer_of("open", path)))
            self.assertEqual(found.advice, ())

    def test_carrier(self) -> None:
        """A router whose own address is not the one seen outside is not the last."""
        mapping = MappingFinding(protocol="PCP", found=True, external="100.64.0.7")
        findings = Findings(
            mediator="m",
            nat=behaviour_of("symmetric"),
            udp=WORKS,
            port_mapping=(mapping,),
        )
        self.assertIs(behind_carrier(findings), True)
        self.assertIn("second NAT", " ".join(diagnose(findings).advice))
        same = MappingFinding(protocol="PCP", found=True, external=OUTSIDE.host)
        findings = Findings(nat=behaviour_of("symmetric"), port_mapping=(same,))
        self.assertIs(behind_carrier(findings), False)
        findings = Findings(nat=behaviour_of("symmetric"))
        self.assertIsNone(behind_carrier(findings))

    def test_mediator_inside(self) -> None:
        """A mediator in the same network tells nothing of the NAT towards others."""
        findings = attrs.evolve(findings_of("symmetric"), mediator_inside=True)
        found = diagnose(findings)
        self.assertEqual((found.kind, found.advice), ("unknown", ()))
        self.assertIn("Ask one on the Internet", found.unknown[0])
        paths = {e.far_end: e.path for e in found.expectations}
        self.assertEqual(paths["symmetric"], "udp or relay")

    def test_one_address(self) -> None:
        """That there is a NAT is known even if nothing else is."""
        nat = NATBehaviour(local_address=INSIDE, mapped_address=OUTSIDE)
        found = diagnose(attrs.evolve(findings_of("symmetric"), nat=nat))
        self.assertEqual(found.kind, "unknown")
        self.assertIn("There is a NAT", found.nat)
        self.assertIn("--udp-other", found.unknown[0])

    def test_long_reasons(self) -> None:
        """The page is as wide as a terminal, whatever went wrong."""
        method = attrs.evolve(DIRECT_TCP, works=False, reason="no such thing " * 20)
        findings = attrs.evolve(findings_of("symmetric"), methods=(method,))
        lines = render(findings, diagnose(findings))
        self.assertLessEqual(max(map(len, lines)), 79)
        self.assertEqual(" ".join(lines).count("no such"), 20)

    def test_no_mediator(self) -> None:
        """Without a mediator only servers on the LAN can be reached."""
        found = diagnose(Findings())
        self.assertFalse(found.possible)
        self.assertIn("--mediator", found.advice[0])
        heard = LANFinding(servers=(("server.system", INSIDE),))
        self.assertTrue(diagnose(Findings(lan=heard)).possible)


addresses = st.sampled_from(
    (INSIDE, OUTSIDE, Address("100.64.0.3", 7), Address("2a00::1", 8))
)
words = st.sampled_from(("", "no answer"))
reaches = st.sampled_from((WORKS, FAILS, Reach(), Reach(reason="not wanted")))
behaviours = st.builds(
    NATBehaviour,
    local_address=st.none() | addresses,
    mapped_address=st.none() | addresses,
    mapping=st.none() | st.sampled_from(Mapping),
    filtering=st.none() | st.sampled_from(Filtering),
    port_preservation=st.none() | st.booleans(),
    hairpinning=st.none() | st.booleans(),
    port_step=st.sampled_from((None, 0, 1)),
    udp=st.booleans(),
)
summaries = st.builds(
    NATSummary,
    st.sampled_from(Mapping),
    st.none() | st.sampled_from(Filtering),
    st.integers(0, 1),
)
endpoints = st.sampled_from(((), (FAR,), (OUTSIDE, INSIDE)))
connected = st.builds(
    PeerFinding,
    state=st.just(PeerState.CONNECTED),
    report=st.sampled_from(PathKind).map(report_of),
    nat=st.none() | summaries,
    udp_endpoints=endpoints,
    tcp_endpoints=endpoints,
)
failed = st.builds(
    PeerFinding,
    state=st.sampled_from([s for s in PeerState if s is not PeerState.CONNECTED]),
    step=st.sampled_from(
        ("mediator", "registration", "confirmation", "identity", "paths")
    ),
    report=st.just(report_of(None, (AttemptFailure("udp 1.2.3.4:5", "no answer"),))),
    nat=st.none() | summaries,
    udp_endpoints=endpoints,
    tcp_endpoints=endpoints,
)
BY_UPGRADE = MethodFinding(
    service="relay",
    url="http://m:3349",
    method="upgrade",
    carrier="CONNECT",
    works=False,
    reason="refused",
)
all_findings = st.builds(
    Findings,
    mediator=st.sampled_from(("", "m:3345")),
    mediator_inside=st.booleans(),
    nat=st.none() | behaviours,
    nat_reason=words,
    udp=reaches,
    tcp=reaches,
    way=words,
    port_mapping=st.sampled_from(
        (
            (),
            (MappingFinding(protocol="PCP", found=False, reason="no answer"),),
            (MappingFinding(protocol="PCP", found=True, external=OUTSIDE.host),),
            (MappingFinding(protocol="UPnP-IGD", found=True, external="10.0.0.1"),),
        )
    ),
    ipv6=st.builds(
        IPv6Finding, addresses=st.sampled_from(((), ("2a00::1",))), mediator=reaches
    ),
    methods=st.sampled_from(((), (DIRECT_TCP,), (DIRECT_TCP, BY_UPGRADE))),
    proxies=st.lists(
        st.builds(
            ProxyFinding,
            proxy=st.just("proxy:3128"),
            source=st.just("--proxy"),
            authentication=st.sampled_from((None, (), ("basic", "digest"))),
            works=st.booleans(),
            reason=words,
        ),
        max_size=1,
    ).map(tuple),
    lan=st.sampled_from(
        (LANFinding(), LANFinding(servers=(("server.system", INSIDE),)))
    ),
    relays=st.sampled_from(
        ((), (RELAY,), (RelayFinding(url="http://m:1", reach=FAILS, assumed=True),))
    ),
    peer=st.none() | connected | failed,
)


class PropertyTests(SynchronousTestCase):
    """What holds whatever was found."""

    def sentences(self, found: Diagnosis) -> tuple[str, ...]:
        return (found.nat, found.verdict, *found.why, *found.advice, *found.unknown)

    @given(all_findings)
    def test_sentences(self, findings: Findings) -> None:
        """All that is said are whole sentences, each once."""
        found = diagnose(findings)
        for sentence in self.sentences(found):
            self.assertTrue(sentence.endswith("."), sentence)
            self.assertTrue(sentence[0].isupper(), sentence)
            self.assertNotIn("None", sentence)
        self.assertEqual(len(found.advice), len(set(found.advice)))

    @given(all_findings)
    def test_failure_has_a_remedy(self, findings: Findings) -> None:
        """Who cannot connect is told what to do."""
        found = diagnose(findings)
        if not found.possible:
            self.assertTrue(found.advice)

    @given(all_findings)
    def test_possible(self, findings: Findings) -> None:
        """With a server, possible means that there is a path, and which."""
        found = diagnose(findings)
        if findings.peer is not None:
            self.assertEqual(found.possible, found.path is not None)

    @given(all_findings)
    def test_presentation(self, findings: Findings) -> None:
        """Everything can be shown to people and to programs."""
        found = diagnose(findings)
        lines = render(findings, found)
        self.assertNotIn("\x1b", "".join(lines))
        self.assertIn("Result", lines)
        values = json.loads(json.dumps(as_json(findings, found)))
        self.assertEqual(values["verdict"], found.verdict)
        self.assertEqual(values["nat"]["kind"], found.kind)

    @given(all_findings)
    def test_decoration(self, findings: Findings) -> None:
        """Colour changes nothing else."""
        found = diagnose(findings)
        decorated = "\n".join(render(findings, found, decorated=True))
        for style in ("\x1b[1m", "\x1b[32m", "\x1b[31m", "\x1b[0m"):
            decorated = decorated.replace(style, "")
        self.assertEqual(decorated, "\n".join(render(findings, found)))
