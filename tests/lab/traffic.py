"""Counting at an interface, from outside the programs, which path bytes took."""

from __future__ import annotations

import json
from collections.abc import Mapping

import attrs

from tests.lab.namespaces import Namespace

__all__ = ["Meter", "Traffic"]

_RULES = """
table {family} traffic {{
    set received {{
        type {address} . inet_proto . inet_service; flags dynamic; size 65535;
    }}
    set sent {{
        type {address} . inet_proto . inet_service; flags dynamic; size 65535;
    }}
    chain incoming {{
        type filter hook prerouting priority -400;
        iifname "{interface}" meta l4proto {{ tcp, udp }} \
            update @received {{ {family} saddr . meta l4proto . th sport counter }}
    }}
    chain outgoing {{
        type filter hook postrouting priority 400;
        oifname "{interface}" meta l4proto {{ tcp, udp }} \
            update @sent {{ {family} daddr . meta l4proto . th dport counter }}
    }}
}}
"""
# Before and after translation, so that addresses and ports are those on the wire.
_ADDRESSES = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}


@attrs.frozen
class Traffic:
    """What went through an interface.

    :ivar octets: by far address, protocol (``"tcp"``, ``"udp"``) and far port, of
        both directions together, IP headers included.
    """

    octets: Mapping[tuple[str, str, int], int]

    def of(self, address: str, protocol: str = "", port: int = 0) -> int:
        """Return the octets exchanged with an address.

        :param protocol: only these, if given.
        :param port: only with this port of the far end, if given.
        """
        return sum(
            octets
            for (host, kind, number), octets in self.octets.items()
            if host == address and protocol in ("", kind) and port in (0, number)
        )

    def total(self) -> int:
        """Return the octets exchanged with anybody."""
        return sum(self.octets.values())

    def since(self, earlier: Traffic) -> Traffic:
        """Return what came in addition to what was counted earlier."""
        return Traffic(
            {
                key: octets - earlier.octets.get(key, 0)
                for key, octets in self.octets.items()
            }
        )

    def __str__(self) -> str:
        lines = [
            f"{octets:>10} octets {kind} with {host}:{port}"
            for (host, kind, port), octets in sorted(self.octets.items())
        ]
        return "\n".join(lines) or "nothing"


class Meter:
    """Counts what goes through one interface of a namespace, from now on.

    :param interface: its name in the namespace.
    :param family: what it counts: ``ip``, which is IPv4, or ``ip6``.
    """

    def __init__(
        self, namespace: Namespace, interface: str, family: str = "ip"
    ) -> None:
        self._namespace = namespace
        self._family = family
        self.name = f"{namespace.label} {interface}"
        rules = _RULES.format(
            interface=interface, family=family, address=_ADDRESSES[family]
        )
        namespace.nft(rules)

    def read(self) -> Traffic:
        """Return what was counted so far."""
        octets: dict[tuple[str, str, int], int] = {}
        for direction in ("received", "sent"):
            for key, count in self._counted(direction).items():
                octets[key] = octets.get(key, 0) + count
        return Traffic(octets)

    def _counted(self, direction: str) -> dict[tuple[str, str, int], int]:
        text = self._namespace.inspect(
            "nft", "-j", "list", "set", self._family, "traffic", direction
        )
        counted: dict[tuple[str, str, int], int] = {}
        for item in json.loads(text)["nftables"]:
            for element in item.get("set", {}).get("elem", []):
                address, protocol, port = element["elem"]["val"]["concat"]
                # The kernel tells of a large set in parts, and of an element again
                # whose place moved meanwhile because others came.
                counted[address, protocol, port] = element["elem"]["counter"]["bytes"]
        return counted
