"""The kernel's NATs are of the kinds they are named after, and agree with ours."""

from __future__ import annotations

import itertools
import pathlib
import socket

from twisted.trial.unittest import SynchronousTestCase

from tests.lab.namespaces import require_namespaces
from tests.lab.nat_rules import ROUTED_KINDS, TRANSLATING_KINDS
from tests.lab.processes import PATIENCE
from tests.lab.punching import Pair, mapped_address, punch
from tests.lab.topology import Host, Lab
from tests.nat_table import entry

OPEN = "open"


def is_running(pid: int) -> bool:
    """Tell whether a process still has a program; a zombie has none."""
    try:
        return bool(pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


class NATKindTests(SynchronousTestCase):
    """What gets through which kind of NAT."""

    def setUp(self) -> None:
        """Build an Internet with a mediator."""
        require_namespaces()
        self.lab = Lab()
        self.addCleanup(self.lab.close)
        self.mediator = self.lab.host("mediator")

    def behind(self, kind: str, label: str) -> Host:
        """Return a host behind a router of this kind."""
        if kind == OPEN:
            return self.lab.host(label)
        return self.lab.router(f"{label}-router", kind).host(label)

    def test_table(self) -> None:
        """Every pair of kinds comes out as it does in the simulator."""
        kinds = [OPEN, *ROUTED_KINDS, *TRANSLATING_KINDS]
        hosts = [{k: self.behind(k, f"{k}-{n}") for k in kinds} for n in (1, 2)]
        expected = {
            (first, second): entry(first, second) == "ok"
            for first, second in itertools.product(kinds, kinds)
            if entry(first, second) != "race"
        }
        pairs = [
            Pair(hosts[0][one], hosts[1][two], hopeful=hopeful)
            for (one, two), hopeful in expected.items()
        ]
        outcomes = punch(self.mediator, pairs)
        found = {
            pair: all(outcome) for pair, outcome in zip(expected, outcomes, strict=True)
        }
        wrong = {
            pair: found[pair] for pair in expected if found[pair] != expected[pair]
        }
        self.assertEqual(wrong, {}, "pairs that came out otherwise")

    def test_race(self) -> None:
        """A router without firewall is punched if it is first, not if it is late."""
        careful = self.behind("port-restricted", "careful")
        careless = self.behind("linux-nofw", "careless")
        first, late = punch(
            self.mediator,
            [
                Pair(careless, careful, delay=6),
                Pair(careful, careless, delay=6, hopeful=False),
            ],
        )
        self.assertEqual(first, (True, True))
        self.assertNotEqual(late, (True, True))

    def test_mapping(self) -> None:
        """Only symmetric kinds map one socket differently for each far end."""
        other = self.lab.host("other")
        same = {}
        for kind in TRANSLATING_KINDS:
            host = self.behind(kind, kind)
            with host.socket() as source:
                seen = set()
                for mediator in (self.mediator, other):
                    with mediator.socket() as meeting_point:
                        meeting_point.bind((mediator.address, 0))
                        seen.add(mapped_address(source, meeting_point))
            same[kind] = len(seen) == 1
        self.assertEqual(
            same, {k: not k.startswith("symmetric") for k in TRANSLATING_KINDS}
        )

    def test_open_symmetric(self) -> None:
        """A stranger gets in at a mapped port, and is answered from another one."""
        router = self.lab.router("router", "symmetric-open")
        stranger = self.lab.host("stranger")
        with (
            router.host("inside").socket() as source,
            self.mediator.socket() as meeting_point,
            stranger.socket() as calling,
        ):
            for one, host in ((meeting_point, self.mediator), (calling, stranger)):
                one.bind((host.address, 0))
            for one in (source, calling):
                one.settimeout(5.0)
            mapped = mapped_address(source, meeting_point)
            calling.sendto(b"hello", mapped)
            self.assertEqual(source.recvfrom(100), (b"hello", calling.getsockname()))
            source.sendto(b"answer", calling.getsockname())
            text, answered_from = calling.recvfrom(100)
            self.assertEqual((text, answered_from[0]), (b"answer", router.address))
            self.assertNotEqual(answered_from, mapped)
            for open_port in (mapped, answered_from):
                calling.sendto(b"again", open_port)
                self.assertEqual(source.recv(100), b"again")
            self.assertEqual(mapped_address(source, meeting_point), mapped)
            source.settimeout(0.2)
            calling.sendto(b"lost", (router.address, 1023))
            self.assertRaises(TimeoutError, source.recv, 100)

    def test_translation(self) -> None:
        """Nothing leaves with a private source, and the meter sees public ones."""
        router = self.lab.router("router", "port-restricted")
        host, meter = router.host("inside"), self.mediator.meter()
        with host.socket() as source, self.mediator.socket() as meeting_point:
            meeting_point.bind((self.mediator.address, 7000))
            self.assertEqual(mapped_address(source, meeting_point)[0], router.address)
        traffic = meter.read()
        self.assertEqual({key[0] for key in traffic.octets}, {router.address})
        # One datagram: 20 octets of IP, 8 of UDP, 8 of text.
        self.assertEqual(traffic.of(router.address, "udp"), 36)

    def test_blocked_udp(self) -> None:
        """A router may refuse UDP and let TCP through."""
        router = self.lab.router("router", "port-restricted", block_udp=True)
        host = router.host("inside")
        with host.socket() as source, self.mediator.socket() as meeting_point:
            meeting_point.bind((self.mediator.address, 0))
            meeting_point.settimeout(0.2)
            source.sendto(b"lost", meeting_point.getsockname())
            self.assertRaises(TimeoutError, meeting_point.recv, 100)
        listener = self.mediator.socket(socket.SOCK_STREAM)
        with listener, host.socket(socket.SOCK_STREAM) as source:
            listener.bind((self.mediator.address, 0))
            listener.listen()
            source.settimeout(PATIENCE)
            source.connect(listener.getsockname())

    def test_lan(self) -> None:
        """Hosts behind one router reach each other, by multicast as well."""
        router = self.lab.router("router", "port-restricted")
        one, two = router.host("one"), router.host("two")
        group = socket.inet_aton("239.255.11.11")
        with one.socket() as source, two.socket() as member:
            member.bind(("", 5018))
            member.settimeout(PATIENCE)
            member.setsockopt(
                socket.IPPROTO_IP,
                socket.IP_ADD_MEMBERSHIP,
                group + socket.inet_aton(two.address),
            )
            source.sendto(b"anybody", ("239.255.11.11", 5018))
            text, (address, _) = member.recvfrom(100)
        self.assertEqual((text, address), (b"anybody", one.address))


class LabTests(SynchronousTestCase):
    """The lab cleans up after itself."""

    def test_removed(self) -> None:
        """Neither namespaces nor processes stay, whatever happened."""
        require_namespaces()
        with self.assertRaises(ZeroDivisionError), Lab() as lab:
            host = lab.host("host")
            host.run(["bash", "-c", "(sleep 600 & echo $! > pid) > /dev/null 2>&1"])
            child = host.spawn("sleep", ["sleep", "600"])
            namespaces = [host.namespace, lab.core]
            sleeping = int((host.directory / "pid").read_text())
            _ = 1 / 0
        self.assertIsNotNone(child.returncode)
        self.assertFalse(lab.directory.exists())
        self.assertFalse(is_running(sleeping))
        self.assertEqual([n.name for n in namespaces if n.exists], [])
