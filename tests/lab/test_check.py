"""``dwcloud check`` is right about every kind of NAT that the kernel has."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs

from dwcloud.peer.expectations import explain
from dwcloud.protocol.punching.prospects import Prospect
from tests.lab.cloud_case import OPEN, CloudTestCase
from tests.lab.nat_rules import ROUTED_KINDS, TRANSLATING_KINDS
from tests.lab.port_mapping import PortMappingDaemon, require_miniupnpd
from tests.lab.processes import PATIENCE
from tests.lab.programs import MEDIATOR_PORT, Cloud, Server
from tests.lab.topology import Host
from tests.nat_table import can_be_guessed, entry, expected_paths

KINDS = (OPEN, *ROUTED_KINDS, *TRANSLATING_KINDS)
_CLIENTS = (OPEN, "port-restricted", "symmetric", "symmetric-seq")
_AT_ONCE = 6
_LIMITS = {"web": 10.0, "blocked": 20.0}
"""Seconds for examinations that wait for what never comes."""

_NAMES = {"open": "none", "linux-nofw": "port-restricted"}
"""Kinds that are called something else, or look like another from inside."""

_FIXED = "endpoint-independent"
_BY_ADDRESS = "address-dependent"
_BY_PORT = "address and port-dependent"
_BEHAVIOUR = {
    "open": (_FIXED, _FIXED),
    "firewall": (_FIXED, _BY_PORT),
    "full-cone": (_FIXED, _FIXED),
    "addr-restricted": (_FIXED, _BY_ADDRESS),
    "port-restricted": (_FIXED, _BY_PORT),
    "linux-nofw": (_FIXED, _BY_PORT),
    "symmetric": (_BY_PORT, _BY_PORT),
    "symmetric-seq": (_BY_PORT, _BY_PORT),
    "symmetric-addr": (_BY_ADDRESS, _BY_ADDRESS),
    "symmetric-open": (_BY_PORT, _FIXED),
}
"""Mapping and filtering that the rules make, in the words of RFC 4787."""


@attrs.frozen
class Outcome:
    """What the command said.

    :ivar code: its exit code.
    :ivar found: its object of JSON.
    """

    code: int
    found: dict[str, Any]

    def paths(self) -> dict[str, str]:
        """Return the path to expect towards each kind of far end."""
        return {each["far_end"]: each["path"] for each in self.found["expectations"]}


def check(host: Host, cloud: Cloud, *words: str, limit: float = PATIENCE) -> Outcome:
    """Run the command on a host.

    :param limit: seconds for the examination.
    """
    options = ("--json", "--mediator", cloud.address, "--timeout", f"{limit}")
    done = subprocess.run(
        host.namespace.command(["dwcloud", "check", *words, *options]),
        cwd=host.directory,
        env=host.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
    )
    if done.stderr or not done.stdout:
        raise AssertionError(f"{host.label}: {done.returncode}: {done.stderr}")
    return Outcome(done.returncode, json.loads(done.stdout))


def prospect_of(one: str, other: str) -> Prospect:
    """What the table says of two kinds, as far as it can be told from inside."""
    one, other = (k.replace("linux-nofw", "port-restricted") for k in (one, other))
    named = {"ok": Prospect.DIRECT, "pred": Prospect.PREDICTED}.get(entry(one, other))
    if named is not None:
        return named
    guessed = can_be_guessed(one, other)
    return Prospect.GUESSED if guessed else Prospect.RELAYED


class CheckTests(CloudTestCase):
    """The command behind routers of every kind."""

    def start_cloud(self) -> Cloud:
        """Start a mediator with a second address, by which NATs are explored."""
        host = self.lab.host("A")
        other = f"{self.lab.add_address(host)}:{MEDIATOR_PORT + 1}"
        return Cloud.start(
            host,
            *("--parameter", "relay_grace=4"),
            *("--udp", f"{MEDIATOR_PORT}:interface={host.address}"),
            *("--udp-other", other),
        )

    def all_of(self, cells: Iterable[tuple[Any, Callable[[], None]]]) -> dict[Any, str]:
        """Try cells beside each other; return what is wrong with which."""
        wrong = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            trying = {cell: pool.submit(attempt) for cell, attempt in cells}
            for cell, each in trying.items():
                try:
                    each.result()
                except AssertionError as error:
                    wrong[cell] = str(error)[:1500]
        return wrong

    def test_kinds(self) -> None:
        """Mapping, filtering, ports and name of each kind, and what to expect."""
        places = {kind: self.place(kind, kind) for kind in KINDS}

        def cell(kind: str) -> Callable[[], None]:
            def attempt() -> None:
                # One method is enough here, and much less work.
                words = ("--method", "upgrade")
                self.assert_kind(kind, check(places[kind].host, self.cloud, *words))

            return attempt

        with self.lab.explaining("A"):
            self.assertEqual(self.all_of((k, cell(k)) for k in KINDS), {})

    def assert_kind(self, kind: str, outcome: Outcome) -> None:
        """What was found is what the rules of the router make."""
        nat = outcome.found["nat"]
        self.assertEqual(nat["kind"], _NAMES.get(kind, kind))
        self.assertEqual((nat["mapping"], nat["filtering"]), _BEHAVIOUR[kind])
        translated = kind in TRANSLATING_KINDS
        self.assertEqual(nat["translated"], translated)
        self.assertEqual(nat["port_preservation"], not kind.startswith("symmetric"))
        self.assertEqual(nat["port_step"], int(kind == "symmetric-seq"))
        if translated:
            self.assertFalse(nat["hairpinning"])
        self.assertTrue(outcome.found["udp"]["works"])
        self.assertEqual((outcome.code, outcome.found["possible"]), (0, True))
        self.assertEqual(outcome.found["unknown"], self.unknown(translated))
        paths = {
            Prospect.DIRECT: "udp",
            Prospect.PREDICTED: "relay, then udp",
            Prospect.GUESSED: "relay, then udp",
            Prospect.RELAYED: "relay",
        }
        told = outcome.paths()
        self.assertEqual(told.pop("public"), "tcp")
        self.assertEqual(told.pop("udp-blocked"), "relay")
        self.assertEqual(told, {far: paths[prospect_of(kind, far)] for far in told})
        advice = " ".join(outcome.found["advice"])
        self.assertEqual("static port" in advice, kind.startswith("symmetric"))
        self.assertEqual("UPnP" in advice, translated)

    def unknown(self, translated: bool) -> list[str]:
        """What cannot be told of a router that does not map ports."""
        if not translated:
            return []
        return [
            "Whether the provider has a second NAT: the router does not tell its own "
            "address, by UPnP, NAT-PMP or PCP."
        ]

    def test_router(self) -> None:
        """A router that forwards ports is asked by each protocol, and forgets them."""
        require_miniupnpd()
        router = self.lab.router("router", "symmetric")
        daemon = PortMappingDaemon.start(self.lab, router)
        with self.lab.explaining("router"):
            outcome = check(router.host("host"), self.cloud, "--method", "upgrade")
            found = {
                m["protocol"]: (m["found"], m["external"])
                for m in outcome.found["port_mapping"]
            }
            names = ("PCP", "NAT-PMP", "UPnP-IGD")
            self.assertEqual(found, dict.fromkeys(names, (True, router.address)))
            self.assertEqual(daemon.mappings(), set())
            self.assertIs(outcome.found["nat"]["carrier_nat"], False)
            self.assertNotIn("UPnP", " ".join(outcome.found["advice"]))

    def test_obstacles(self) -> None:
        """No UDP, only the web, a carrier's NAT, hairpins, and no mediator."""
        place = self.place("blocked", "port-restricted", block_udp=True)
        web = self.lab.router(
            "w", "port-restricted", block_udp=True, tcp_ports=(80, 443)
        )
        carrier = self.lab.router("carrier", "symmetric", "100.64.0.0/24")
        customer = carrier.router("customer", "port-restricted").host("behind")
        mobile = carrier.host("mobile")
        turning = self.lab.router("turning", "full-cone", hairpin=True)
        hosts = {
            "blocked": place.host,
            "web": web.host("office"),
            "customer": customer,
            "mobile": mobile,
            "hairpin": turning.host("turned"),
        }

        def cell(name: str) -> Callable[[], None]:
            def attempt() -> None:
                limit = _LIMITS.get(name, PATIENCE)
                outcome = check(hosts[name], self.cloud, limit=limit)
                getattr(self, f"assert_{name}")(outcome)

            return attempt

        with self.lab.explaining("A"):
            self.assertEqual(self.all_of((n, cell(n)) for n in hosts), {})

    def assert_blocked(self, outcome: Outcome) -> None:
        """Everything behind a NAT is relayed, and UDP is named as the cause."""
        self.assertEqual(outcome.found["nat"]["kind"], "udp-blocked")
        self.assertEqual((outcome.code, outcome.found["possible"]), (0, True))
        told = outcome.paths()
        self.assertEqual(told.pop("public"), "tcp")
        self.assertEqual(set(told.values()), {"relay"})
        self.assertIn("Let UDP out", outcome.found["advice"][0])

    def assert_web(self, outcome: Outcome) -> None:
        """Nothing answers at the web's ports: refused there, silent elsewhere."""
        self.assertEqual((outcome.code, outcome.found["possible"]), (1, False))
        reasons = {m["url"]: m["reason"] for m in outcome.found["methods"]}
        address = self.cloud.address
        self.assertEqual(reasons[f"https://{address}"], "refused")
        self.assertEqual(reasons[f"http://{address}:{MEDIATOR_PORT}"], "no answer")
        self.assertIn("443", outcome.found["advice"][0])

    def assert_customer(self, outcome: Outcome) -> None:
        """Behind two NATs the stricter one counts."""
        nat = outcome.found["nat"]
        self.assertEqual((nat["kind"], nat["carrier_nat"]), ("symmetric", None))

    def assert_mobile(self, outcome: Outcome) -> None:
        """A carrier's address inside tells of its NAT."""
        nat = outcome.found["nat"]
        self.assertEqual((nat["kind"], nat["carrier_nat"]), ("symmetric", True))
        self.assertIn("public IPv4 address", " ".join(outcome.found["advice"]))

    def assert_hairpin(self, outcome: Outcome) -> None:
        """A router that turns packets round is found to."""
        nat = outcome.found["nat"]
        self.assertEqual((nat["kind"], nat["hairpinning"]), ("full-cone", True))

    def test_peers(self) -> None:
        """The path to a server, and the reason for it, are those of the table."""
        pairs = [
            *(("port-restricted", client) for client in _CLIENTS),
            ("symmetric", "addr-restricted"),
            ("symmetric", "symmetric"),
        ]
        servers = dict.fromkeys(server for server, _ in pairs)
        clients = dict.fromkeys(client for _, client in pairs)
        away = {kind: self.place(f"c-{kind}", kind) for kind in clients}
        home = {kind: self.serve(self.place(f"s-{kind}", kind)) for kind in servers}

        def cell(server: str, client: str) -> Callable[[], None]:
            def attempt() -> None:
                outcome = check(away[client].host, self.cloud, home[server].peer)
                self.assert_pair(server, client, outcome)

            return attempt

        with self.lab.explaining():
            wrong = self.all_of(((s, c), cell(s, c)) for s, c in pairs)
            self.assertEqual(wrong, {})
            self.assert_offline(away[OPEN].host, home["symmetric"])

    def assert_pair(self, server: str, client: str, outcome: Outcome) -> None:
        """The path is one of the table, and so is why."""
        self.assertEqual((outcome.code, outcome.found["possible"]), (0, True))
        path, why = outcome.found["path"], " ".join(outcome.found["why"])
        self.assertIn(path, expected_paths(server, client))
        self.assertEqual(outcome.found["peer"]["state"], "connected")
        self.assertEqual(outcome.found["peer"]["nat"]["kind"], server)
        if path != "tcp":
            self.assertIn(explain(prospect_of(server, client)), why)
        self.assertEqual(bool(outcome.found["advice"]), path == "relay")

    def assert_offline(self, host: Host, server: Server) -> None:
        """A server that has ended is offline, which differs from unreachable."""
        server.process.end()
        outcome = check(host, self.cloud, server.peer)
        self.assertEqual((outcome.code, outcome.found["possible"]), (1, False))
        self.assertEqual(outcome.found["peer"]["state"], "offline")
        self.assertEqual(outcome.found["peer"]["step"], "registration")
        self.assertIn("dwcloud serve", outcome.found["advice"][0])
