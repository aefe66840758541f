"""The networks that are measured on, made of namespaces and removed afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import attrs

from benchmarks.peers import Peer, compiled
from tests.lab.namespaces import Namespace, remove_abandoned

__all__ = ["NETWORKS", "Network", "Place", "opened"]

_LAN = "10.21.0"
_WAN = "10.22.0"
_JOINED_FOR_NS = 50_000
"""Nanoseconds for which a device at the end of the cable collects packets to join, as
network cards do (their interrupts are delayed by 20 to 100 microseconds)."""

_TCP_BUFFERS = f"4096 131072 {64 << 20}"
"""Bytes: least, first and most; the kernel's own are less than the long cable holds."""


@attrs.frozen
class Place:
    """Where the two ends of a measurement run.

    :ivar client: the network of the end that connects; None for the machine's own.
    :ivar server: that of the other one.
    :ivar host: the address of the latter.
    """

    client: Namespace | None
    server: Namespace | None
    host: str


@attrs.frozen
class Network:
    """A network to measure on.

    :ivar name: in tables and on the command line.
    :ivar title: what it is, in a few words.
    :ivar build: makes it, and puts what removes it on a stack.
    """

    name: str
    title: str
    build: Callable[[contextlib.ExitStack], Place]


@contextlib.contextmanager
def opened(network: Network) -> Iterator[Place]:
    """Have a network for as long as the context lasts."""
    with contextlib.ExitStack() as stack:
        yield network.build(stack)


def _namespaces(stack: contextlib.ExitStack, *labels: str) -> list[Namespace]:
    remove_abandoned()
    made = []
    for label in labels:
        namespace = Namespace(label)
        stack.callback(namespace.remove)
        made.append(namespace)
    return made


def _loopback(stack: contextlib.ExitStack) -> Place:
    return Place(None, None, "127.0.0.1")


def _behind_nat(stack: contextlib.ExitStack, loss_percent: int) -> Place:
    """Put a masquerading router between client and server."""
    client, router, server = _namespaces(stack, "client", "router", "server")
    # One packet at a time can get lost only where packets travel one at a time.
    limit = "gso_max_segs 1" if loss_percent else ""
    for inner, name, net, outer in (
        (client, "lan", _LAN, 2),
        (server, "wan", _WAN, 2),
    ):
        inner.ip(
            f"link add {name} {limit} type veth peer name {name} {limit} "
            f"netns {router.name}",
            f"address add {net}.{outer}/24 dev {name}",
            f"link set {name} up",
        )
        router.ip(f"address add {net}.1/24 dev {name}", f"link set {name} up")
    client.ip(f"route add default via {_LAN}.1")
    router.sysctl(ipv4__ip_forward=1)
    router.nft(
        "table ip benchmark {\n"
        "chain post { type nat hook postrouting priority srcnat;\n"
        'oifname "wan" masquerade\n}\n'
        "chain forward { type filter hook forward priority filter;\n"
        + (f"numgen random mod 100 < {loss_percent} drop\n" if loss_percent else "")
        + "}\n}"
    )
    return Place(client, server, f"{_WAN}.2")


def _cable(
    stack: contextlib.ExitStack, round_trip: float, megabits: int, loss: float
) -> Place:
    """Join client and server by a long cable.

    :param round_trip: seconds.
    :param megabits: 10^6 bit/s in each direction.
    :param loss: share of the packets, in each direction.
    """
    client, server = _namespaces(stack, "client", "server")
    queue = int(round_trip * megabits * 1e6 / 8)
    words = [compiled("cable.c")]
    for end in (client, server):
        words += [end.name, "cable"]
    words += [str(int(round_trip * 1e6 / 2)), str(megabits), str(queue)]
    words.append(str(int(loss * 1e6)))
    stack.enter_context(Peer(words, None)).ready()
    for end, number in ((client, 1), (server, 2)):
        end.ip(
            f"address add {_LAN}.{number}/24 dev cable",
            "link set cable up txqueuelen 10000",
        )
        path = "/sys/class/net/cable/gro_flush_timeout"
        end.inspect("sh", "-c", f"echo {_JOINED_FOR_NS} > {path}")
        for setting in ("tcp_rmem", "tcp_wmem"):
            end.inspect("sysctl", "-q", "-w", f"net.ipv4.{setting}={_TCP_BUFFERS}")
    return Place(client, server, f"{_LAN}.2")


NETWORKS = {
    network.name: network
    for network in (
        Network("loopback", "loopback", _loopback),
        Network("nat", "veth, NAT", lambda stack: _behind_nat(stack, 0)),
        Network("loss", "veth, NAT, 1 % loss", lambda stack: _behind_nat(stack, 1)),
        Network("long", "50 ms", lambda stack: _cable(stack, 0.05, 1000, 0.0)),
        Network(
            "long-loss",
            "50 ms, 1 % loss",
            lambda stack: _cable(stack, 0.05, 1000, 0.01),
        ),
    )
}
"""All networks by name."""
