"""The kernel's NATs, by the kinds that ``dwcloud.testing`` simulates.

Masquerading maps independently of the endpoint and filters by address and port. What
opens further is a map of holes, learnt from the packets that leave.
"""

from __future__ import annotations

import ipaddress
import textwrap
from collections.abc import Sequence

__all__ = ["ROUTED_KINDS", "TRANSLATING_KINDS", "router_rules"]

ROUTED_KINDS = ("firewall",)
"""Routers whose hosts have public addresses."""

TRANSLATING_KINDS = (
    "full-cone",
    "addr-restricted",
    "port-restricted",
    "linux-nofw",
    "symmetric",
    "symmetric-seq",
    "symmetric-addr",
    "symmetric-open",
)
"""Routers with NAT; the names are those of :data:`dwcloud.testing.NAT_KINDS`."""

_HOLE_KEYS = {
    # What of the far end a hole is bound to: the map's key type, and that part of
    # the key in a packet that comes and in one that leaves.
    "full-cone": ("", "", ""),
    "addr-restricted": ("ipv4_addr . ", "ip saddr . ", "ip daddr . "),
}
_HOLE_KEYS["symmetric-addr"] = _HOLE_KEYS["addr-restricted"]

_SEQUENCE = range(20000, 24000)
"""External ports that are given out one after the other."""

_ADDRESS_BITS = 9
"""Last bits of the far address, by which the addresses of the lab differ."""


def _filter(
    kind: str, block_udp: bool, no_udp_from: str, tcp_ports: Sequence[int]
) -> str:
    drop = "" if kind == "linux-nofw" else 'iifname "wan" drop'
    untracked = "ct state untracked accept" if kind == "symmetric-open" else ""
    udp = "meta l4proto udp drop" if block_udp else ""
    if no_udp_from:
        udp += f"\nip saddr {no_udp_from} meta l4proto udp drop"
    if tcp_ports:
        ports = ", ".join(str(port) for port in tcp_ports)
        udp += f'\niifname "lan" ct state new tcp dport != {{ {ports} }} drop'
    # A packet of state invalid would leave without translation.
    return f"""
        chain forward {{
            type filter hook forward priority filter; policy drop;
            ct state invalid drop
            {udp}
            iifname "lan" accept
            ct state established,related accept
            ct status dnat accept
            {untracked}
        }}
        chain input {{
            type filter hook input priority filter; policy accept;
            ct state established,related accept
            {drop}
        }}
    """


def _holes(kind: str, address: str, hairpin: bool) -> str:
    inward = "" if hairpin else 'iifname "wan"'
    key, coming, leaving = _HOLE_KEYS[kind]
    learnt = "\n".join(
        f'oifname "wan" meta l4proto {{ tcp, udp }} ct direction {direction} '
        f"update @holes {{ {leaving}meta l4proto . th sport : "
        f"ct {direction} ip saddr . ct {direction} proto-src }}"
        for direction in ("original", "reply")
    )
    # Source translation is done at 100, so at 110 the mapped port is seen.
    return f"""
        map holes {{
            type {key}inet_proto . inet_service : ipv4_addr . inet_service
            flags dynamic,timeout
            timeout 120s
            size 65535
        }}
        chain pre {{
            type nat hook prerouting priority dstnat;
            {inward} ip daddr {address} meta l4proto {{ tcp, udp }} \
                dnat ip to {coming}meta l4proto . th dport map @holes
        }}
        chain learn {{
            type filter hook postrouting priority 110;
            {learnt}
        }}
    """


def _stateless_holes(address: str) -> str:
    """Holes for UDP, as above, that make no flow of what comes in through them.

    Connection tracking would answer such a flow from the very port that it came to,
    while this kind of NAT opens one more port for the answer. So only what answers a
    flow is left to it; the rest is translated without its knowledge.
    """
    return f"""
        map hosts {{
            type inet_service : ipv4_addr
            flags dynamic,timeout
            timeout 120s
            size 65535
        }}
        map ports {{
            type inet_service : inet_service
            flags dynamic,timeout
            timeout 120s
            size 65535
        }}
        set flows {{
            type ipv4_addr . inet_service . inet_service
            flags dynamic,timeout
            timeout 120s
            size 65535
        }}
        chain untracked {{
            type filter hook prerouting priority raw;
            iifname != "wan" return
            ip daddr != {address} return
            meta l4proto != udp return
            ip saddr . udp sport . udp dport @flows return
            ip daddr set udp dport map @hosts \
                udp dport set udp dport map @ports notrack
        }}
        chain learn {{
            type filter hook postrouting priority 110;
            oifname != "wan" return
            meta l4proto != udp return
            update @hosts {{ udp sport : ct original ip saddr }}
            update @ports {{ udp sport : ct original proto-src }}
            update @flows {{ ip daddr . udp dport . udp sport }}
        }}
    """


def _translation(kind: str, address: str) -> str:
    rules = []
    if kind == "symmetric-addr":
        # Each address sees other bits of the port flipped: so no two see the same one,
        # or any that look like a sequence, and two ports inside never become one. Of
        # chance all of that comes now and then.
        mask = ipaddress.IPv4Address((1 << _ADDRESS_BITS) - 1)
        rules = [
            f'oifname "wan" ip daddr & {mask} == {ipaddress.IPv4Address(last)} '
            "meta l4proto { tcp, udp } "
            f"snat ip to {address} : th sport ^ {last + 1 << 5:#x}"
            for last in range(1 << _ADDRESS_BITS)
        ]
    elif kind == "symmetric-seq":
        elements = ", ".join(f"{n} : {port}" for n, port in enumerate(_SEQUENCE))
        ports = f"numgen inc mod {len(_SEQUENCE)} map {{ {elements} }}"
        # One for each protocol: what else a host does by TCP at the same time depends
        # on how busy the machine is.
        rules = [
            f'oifname "wan" meta l4proto {protocol} snat ip to {address} : {ports}'
            for protocol in ("tcp", "udp")
        ]
    chance = kind in ("symmetric", "symmetric-open")
    random = "random,fully-random" if chance else ""
    return "\n".join([*rules, f'oifname "wan" masquerade {random}'])


def router_rules(
    kind: str,
    address: str,
    *,
    block_udp: bool = False,
    hairpin: bool = False,
    no_udp_from: str = "",
    tcp_ports: Sequence[int] = (),
    udp_timeout: int | None = None,
) -> str:
    """Return the nftables rules of a router between ``lan`` and ``wan``.

    :param kind: one of :data:`ROUTED_KINDS` or :data:`TRANSLATING_KINDS`.
    :param address: the router's own on ``wan``.
    :param block_udp: whether it forwards no UDP.
    :param hairpin: whether hosts behind it reach each other by its address; of the
        kinds that keep holes.
    :param no_udp_from: a host whose UDP it does not let in.
    :param tcp_ports: the only ones outside that may be connected to, if any are given.
    :param udp_timeout: seconds, which are a setting of the kernel and no rule.
    """
    if hairpin and kind not in _HOLE_KEYS:
        raise ValueError(f"{kind!r} keeps no holes to turn round in")
    rules = [_filter(kind, block_udp, no_udp_from, tcp_ports)]
    if kind in _HOLE_KEYS:
        rules.append(_holes(kind, address, hairpin))
    elif kind == "symmetric-open":
        rules.append(_stateless_holes(address))
    if kind in TRANSLATING_KINDS:
        turned = ""
        if hairpin:
            turned = f'iifname "lan" oifname "lan" ct status dnat snat to {address}'
        rules.append(f"""
        chain post {{
            type nat hook postrouting priority srcnat;
            {_translation(kind, address)}
            {turned}
        }}
        """)
    elif kind not in ROUTED_KINDS:
        raise ValueError(f"{kind!r} is no kind of router")
    body = "\n".join(textwrap.dedent(part) for part in rules)
    return f"table ip router {{\n{body}\n}}"
