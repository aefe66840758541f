"""Firewalls of the kernel that admit what ``dwcloud allowlist`` says, and no more."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.cloud_case import CloudTestCase, Place
from tests.lab.programs import MEDIATOR_PORT, RELAY_PORT, Cloud, Forward
from tests.lab.topology import Host

_CLOSED = """
table inet filter {
    chain output {
        type filter hook output priority filter; policy drop;
        oif lo accept
        ct state established,related accept
        jump dwcloud_out
    }
    chain input {
        type filter hook input priority filter; policy drop;
        iif lo accept
        ct state established,related accept
        jump dwcloud_in
    }
}
"""
"""A host that lets nothing in or out but answers and what the chains admit."""


class AllowlistTests(CloudTestCase):
    """A client on a host with such a firewall."""

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

    def allowlist(self, host: Host, *words: str) -> str:
        """Run the command."""
        mediator = ("--mediator", self.cloud.address)
        return host.run(["dwcloud", "allowlist", *mediator, *words])

    def admit(self, host: Host, only: str, *words: str) -> str:
        """Load the rules of some kinds; return them."""
        rules = self.allowlist(host, "--format", "nft", "--only", only, *words)
        path = host.directory / "dwcloud.nft"
        path.write_text(rules)
        host.run(["nft", "-c", "-f", str(path)])
        host.run(["nft", "-f", str(path)])
        return rules

    def close(self, host: Host) -> None:
        """Close a host, whose chains there are by now."""
        host.namespace.nft(_CLOSED)

    def tried(self, host: Host, *words: str) -> dict[str, Any]:
        """Try the list there; return what is reachable by protocol, host and port."""
        text = self.allowlist(host, "--format", "json", "--test", *words)
        return {
            f"{line['protocol']} {line['host']} {line['first_port']}": line["reachable"]
            for line in json.loads(text)
        }

    def places(self) -> tuple[Place, Place]:
        """A server and a client behind the usual routers."""
        home = self.place("server", "port-restricted")
        return home, self.place("client", "port-restricted")

    def test_rules_let_a_connection_through(self) -> None:
        """With all lines a hole is punched, with the required ones the relay helps."""
        with self.lab.explaining():
            home, away = self.places()
            server = self.serve(home)
            host, address = away.host, self.cloud.address
            self.admit(host, "required,direct,lan,router")
            self.close(host)
            forward = Forward(host, server, self.cloud)
            self.assertEqual(self.check(forward, server, (home, away)), "udp")
            forward.end()
            self.admit(host, "required", "--no-lan")
            forward = Forward(host, server, self.cloud, "--no-lan")
            self.assertEqual(self.check(forward, server, (home, away)), "relay")
            forward.end()
            found = self.tried(host, "--only", "required,direct", "--no-lan")
            self.assertEqual(found[f"tcp {address} {MEDIATOR_PORT}"], True)
            self.assertEqual(found[f"tcp {address} {RELAY_PORT}"], True)
            self.assertEqual(found[f"udp {address} {MEDIATOR_PORT}"], False)

    def test_firewall_without_rules(self) -> None:
        """The same firewall without the lines lets nothing through: they matter."""
        with self.lab.explaining():
            home, away = self.places()
            server = self.serve(home)
            host, address = away.host, self.cloud.address
            host.namespace.nft(
                "table inet filter { chain dwcloud_out { }; chain dwcloud_in { }; }"
            )
            self.close(host)
            report = Forward(host, server, self.cloud, "--timeout", "8").fail()
            self.assertEqual(report["path"], None)
            relay = f"http://{address}:{RELAY_PORT}"
            words = (
                f"dwcloud allowlist --mediator {address} --relay {relay} --test "
                "--format json --only required || true"
            )
            text = host.run(["sh", "-c", words])
            self.assertIn('"reachable": false', text)
            self.assertNotIn('"reachable": true', text)
