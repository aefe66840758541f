"""The kernel's NATs, by the kinds that ``dwcloud.testing`` simulates.

Masquerading maps independently of the endpoint and filters by address and port. What
opens further is a map of holes, learnt from the packets that leave.
"""

from __future__ import annotations

import textwrap

__all__ = ["ROUTED_KINDS", "TRANSLATING_KINDS", "router_rules"]

ROUTED_KINDS = ("firewall",)
"""Routers whose hosts have public addresses."""

TRANSLATING_KINDS = (
    "full-cone",
    "addr-restricted",
    "port-restricted",
    "linux-nofw",
    "symmetric",
)
"""Routers with NAT; the names are those of :data:`dwcloud.testing.NAT_KINDS`."""

_HOLE_KEYS = {
    # What of the far end a hole is bound to: the map's key type, and that part of
    # the key in a packet that comes and in one that leaves.
    "full-cone": ("", "", ""),
    "addr-restricted": ("ipv4_addr . ", "ip saddr . ", "ip daddr . "),
}


def _filter(kind: str, block_udp: bool) -> str:
    drop = "" if kind == "linux-nofw" else 'iifname "wan" drop'
    udp = "meta l4proto udp drop" if block_udp else ""
    # A packet of state invalid would leave without translation.
    return f"""
        chain forward {{
            type filter hook forward priority filter; policy drop;
            ct state invalid drop
            {udp}
            iifname "lan" accept
            ct state established,related accept
            ct status dnat accept
        }}
        chain input {{
            type filter hook input priority filter; policy accept;
            ct state established,related accept
            {drop}
        }}
    """


def _holes(kind: str, address: str) -> str:
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
            iifname "wan" ip daddr {address} meta l4proto {{ tcp, udp }} \
                dnat ip to {coming}meta l4proto . th dport map @holes
        }}
        chain learn {{
            type filter hook postrouting priority 110;
            {learnt}
        }}
    """


def router_rules(kind: str, address: str, *, block_udp: bool = False) -> str:
    """Return the nftables rules of a router between ``lan`` and ``wan``.

    :param kind: one of :data:`ROUTED_KINDS` or :data:`TRANSLATING_KINDS`.
    :param address: the router's own on ``wan``.
    :param block_udp: whether it forwards no UDP.
    """
    rules = [_filter(kind, block_udp)]
    if kind in _HOLE_KEYS:
        rules.append(_holes(kind, address))
    if kind in TRANSLATING_KINDS:
        ports = "random,fully-random" if kind == "symmetric" else ""
        rules.append(f"""
        chain post {{
            type nat hook postrouting priority srcnat;
            oifname "wan" masquerade {ports}
        }}
        """)
    elif kind not in ROUTED_KINDS:
        raise ValueError(f"{kind!r} is no kind of router")
    body = "\n".join(textwrap.dedent(part) for part in rules)
    return f"table ip router {{\n{body}\n}}"
