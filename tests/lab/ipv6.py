"""IPv6 in the lab: networks with global addresses, each behind a stateful firewall."""

from __future__ import annotations

import ipaddress

from tests.lab.namespaces import Namespace
from tests.lab.topology import Host, Lab, Router

__all__ = ["join_ipv6", "protect_ipv6"]

_LINKS = ipaddress.IPv6Network("2a00:1450:4000::/48")
_NETWORKS = ipaddress.IPv6Network("2a00:1450:4001::/48")

_FIREWALL = """
table ip6 firewall {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state invalid drop
        ct state established,related accept
        meta l4proto ipv6-icmp accept
        iifname "lan" accept
    }
    chain input {
        type filter hook input priority filter; policy accept;
        ct state established,related accept
        meta l4proto ipv6-icmp accept
        iifname "wan" drop
    }
}
"""


def _prefix(network: ipaddress.IPv6Network, namespace: Namespace) -> str:
    """Return the /64 of a namespace, without its last group."""
    subnet = network.network_address + (namespace.number << 64)
    return str(subnet).removesuffix("::") + "::"


def join_ipv6(lab: Lab, namespace: Namespace, interface: str) -> str:
    """Give a namespace that is joined to the Internet an address of IPv6; return it."""
    lab.core.sysctl(ipv6__conf__all__forwarding=1)
    prefix = _prefix(_LINKS, namespace)
    lab.core.ip(f"address add {prefix}1/64 dev to-{namespace.number} nodad")
    namespace.ip(
        f"address add {prefix}2/64 dev {interface} nodad",
        f"route add default via {prefix}1",
    )
    return f"{prefix}2"


def protect_ipv6(lab: Lab, router: Router, host: Host) -> str:
    """Give a host behind a router a global address of IPv6; return it.

    The router lets out everything, and in what answers that.
    """
    outside = join_ipv6(lab, router.namespace, "wan")
    prefix = _prefix(_NETWORKS, router.namespace)
    lab.core.ip(f"route add {prefix}/64 via {outside}")
    router.namespace.sysctl(ipv6__conf__all__forwarding=1)
    router.namespace.nft(_FIREWALL)
    router.namespace.ip(f"address add {prefix}1/64 dev lan nodad")
    host.namespace.ip(
        f"address add {prefix}2/64 dev eth0 nodad",
        f"route add default via {prefix}1",
    )
    return f"{prefix}2"
