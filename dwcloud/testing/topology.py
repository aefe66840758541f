"""The world and the builders of its networks."""

from __future__ import annotations

import ipaddress
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dwcloud.protocol.addresses import Address

from .firewall import Firewall
from .hosts import Host
from .links import LinkProfile
from .nat import (
    PORT_RESTRICTED,
    Filtering,
    Mapping,
    NATBehaviour,
    NATTable,
    PortAllocation,
)
from .network import Interface, Network
from .packets import Packet, canonical_host
from .routers import Router
from .scheduler import Scheduler
from .trace import Trace

__all__ = ["Realm", "SimulationTimeout", "World"]

T = TypeVar("T")

#: The link of an Internet host unless told otherwise: 20 ms from host to host and back.
INTERNET_LINK = LinkProfile(latency=0.005)
#: The link of a host in a LAN: 1 ms there and back.
LAN_LINK = LinkProfile(latency=0.00025)
DEFAULT_LAN = "192.168.1.0/24"
#: Routers of the providers between two networks at the Internet.
INTERNET_HOPS = 2


class SimulationTimeout(AssertionError):
    """What a test waited for did not happen within its limit of simulated time."""


class World:
    """A simulated time with networks, hosts and a record of all packets in it.

    :param seed: of all randomness; the same seed gives the same trace.
    :param start: the time at the beginning, seconds.
    :param trace_limit: how many packets the trace keeps in full.
    :ivar trace: what became of each packet.
    :ivar name_lookup_delay: how long resolving a name takes, seconds.
    """

    def __init__(
        self, seed: int = 0, *, start: float = 0.0, trace_limit: int = 200_000
    ) -> None:
        self.seed = seed
        self.scheduler = Scheduler(start)
        self.trace = Trace(self.seconds, trace_limit)
        self.name_lookup_delay = 0.0
        self.hosts: dict[str, Host] = {}
        self.routers: dict[str, Router] = {}
        self.names: dict[str, list[str]] = {"localhost": ["127.0.0.1"]}
        self._numbers = itertools.count(1)
        self._random = self.random_for("world")
        self._under_way = 0

    # Randomness and numbers

    def random_for(self, name: str) -> random.Random:
        """Return a source of randomness that depends on the seed and ``name`` only."""
        return random.Random(f"{self.seed}/{name}")

    def random_bytes(self, size: int) -> bytes:
        """Return random octets that the seed determines, in place of os.urandom."""
        return self._random.randbytes(size)

    def next_number(self) -> int:
        """Return a number that no packet or socket of this world has."""
        return next(self._numbers)

    # Time

    def seconds(self) -> float:
        """Return the simulated time, seconds."""
        return self.scheduler.now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` of simulated time pass, event by event."""
        self.scheduler.run_for(seconds)

    def run_until(
        self, goal: Deferred[T] | Callable[[], object], limit: float = 60.0
    ) -> T | None:
        """Run until a Deferred fires or a function of no arguments returns true.

        :param limit: how many seconds of simulated time may pass.
        :return: the result of the Deferred; its failure is raised.
        :raises SimulationTimeout: if the goal is not reached.
        """
        if not isinstance(goal, Deferred):
            self._run(goal, limit)
            return None
        results: list[Any] = []

        def keep(result: Any) -> Any:
            results.append(result)
            return None if isinstance(result, Failure) else result

        goal.addBoth(keep)
        self._run(lambda: bool(results), limit)
        result = results[0]
        if isinstance(result, Failure):
            result.raiseException()
        return result  # type: ignore[no-any-return]

    def _run(self, reached: Callable[[], object], limit: float) -> None:
        end = self.seconds() + limit
        while not reached():
            if not self.scheduler.run_next(end):
                if self.scheduler.next_time() is not None:
                    self.scheduler.run_for(end - self.seconds())
                raise SimulationTimeout(
                    f"not reached within {limit} s: {reached!r} (now {self.seconds()})"
                )

    def run_until_idle(self, limit: float = 60.0) -> None:
        """Run until no packet is under way and nothing is due at once.

        Timers of programs that still wait for their moment do not count.

        :raises SimulationTimeout: if packets never end.
        """

        def is_idle() -> bool:
            next_time = self.scheduler.next_time()
            return not self._under_way and (
                next_time is None or next_time > self.seconds()
            )

        self._run(is_idle, limit)

    # Packets

    def new_packet(
        self,
        origin: str,
        protocol: str,
        source: Address,
        destination: Address,
        payload: bytes,
    ) -> Packet:
        """Return a packet that the host or router ``origin`` is about to send."""
        return Packet(
            protocol,
            source,
            destination,
            payload,
            next(self._numbers),
            origin,
            self.scheduler.now,
        )

    def carry(
        self, delay: float, deliver: Callable[[Packet], None], packet: Packet
    ) -> None:
        """Hand a packet to ``deliver`` after ``delay`` seconds."""
        self._under_way += 1
        self.scheduler.post(delay, self._arrive, deliver, packet)

    def _arrive(self, deliver: Callable[[Packet], None], packet: Packet) -> None:
        self._under_way -= 1
        deliver(packet)

    # Building

    def add_name(self, name: str, *addresses: str) -> None:
        """Let every host resolve ``name`` to these addresses."""
        self.names[name.lower()] = [canonical_host(address) for address in addresses]

    def unique_name(self, name: str) -> str:
        """Return ``name``, with a number if a host or router has it already."""
        taken = self.hosts.keys() | self.routers.keys()
        candidates = (f"{name} {number}" for number in itertools.count(2))
        return next(c for c in itertools.chain([name], candidates) if c not in taken)

    def internet(self, *, link: LinkProfile = INTERNET_LINK) -> Realm:
        """Return a new public network; ``link`` is the default of its members."""
        network = Network(
            self,
            "internet",
            ["0.0.0.0/0", "::/0"],
            reports_absence=False,
            hops=INTERNET_HOPS,
        )
        return Realm(network, link)

    def lan(
        self, *prefixes: str, name: str = "lan", link: LinkProfile = LAN_LINK
    ) -> Realm:
        """Return a network that is connected to nothing else."""
        return Realm(Network(self, name, prefixes or [DEFAULT_LAN]), link)


class Realm:
    """A network to build in: the Internet or a LAN.

    :ivar network: the network itself.
    :ivar router: what joins it to the network around it; None if nothing does.
    """

    def __init__(
        self, network: Network, link: LinkProfile, router: Router | None = None
    ) -> None:
        self.network = network
        self.world = network.world
        self._router = router
        self._link = link

    @property
    def router(self) -> Router:
        """The router at the edge of this network.

        :raises ValueError: if it has none.
        """
        if self._router is None:
            raise ValueError(f"{self.network.name} has no router")
        return self._router

    def host(
        self, *addresses: str, name: str | None = None, link: LinkProfile | None = None
    ) -> Host:
        """Add a host.

        :param addresses: IPv4 and IPv6 addresses, the first of a family its default.
        :param name: in the trace; the first address if not given.
        :param link: its link to the network.
        """
        if not addresses:
            raise ValueError("a host needs an address")
        host = Host(self.world, self.world.unique_name(name or addresses[0]))
        host.attach(self.network, addresses, link or self._link)
        self.world.hosts[host.name] = host
        return host

    def attach(
        self, host: Host, *addresses: str, link: LinkProfile | None = None
    ) -> Interface:
        """Give a host one more interface, in this network."""
        return host.attach(self.network, addresses, link or self._link)

    def nat(
        self,
        address: str,
        behaviour: NATBehaviour = PORT_RESTRICTED,
        *,
        mapping: Mapping | None = None,
        filtering: Filtering | None = None,
        port_allocation: PortAllocation | None = None,
        hairpinning: bool | None = None,
        mapping_timeout: float | None = None,
        firewall: Firewall | None = None,
        lan: str | Iterable[str] = DEFAULT_LAN,
        name: str | None = None,
        link: LinkProfile | None = None,
        lan_link: LinkProfile = LAN_LINK,
    ) -> Realm:
        """Add a router with NAT and return the network behind it.

        :param address: the external IPv4 address.
        :param behaviour: a :class:`NATBehaviour`; the next five change it.
        :param firewall: further rules. One that admits replies only filters by
            address and port whatever the NAT would let in.
        :param lan: the ranges of the network behind; the first address of each is
            the router's own. IPv6 ranges are routed, not translated.
        :param link: the link of the router, :class:`LinkProfile`.
        :param lan_link: the default link of the hosts behind.
        """
        changes = {
            "mapping": mapping,
            "filtering": filtering,
            "port_allocation": port_allocation,
            "hairpinning": hairpinning,
            "mapping_timeout": mapping_timeout,
        }
        given: dict[str, Any] = {k: v for k, v in changes.items() if v is not None}
        name = self.world.unique_name(name or f"nat {address}")
        table = NATTable(
            attrs.evolve(behaviour, **given), self.world.random_for(f"{name} ports")
        )
        router = Router(self.world, name, nat=table, firewall=firewall)
        return self._behind(router, [address], link, lan, lan_link)

    def firewall(
        self,
        lan: str | Iterable[str],
        firewall: Firewall | None = None,
        *,
        name: str | None = None,
        link: LinkProfile | None = None,
        lan_link: LinkProfile = LAN_LINK,
    ) -> Realm:
        """Add a router without NAT and return the network with routed addresses.

        :param lan: the ranges of the network behind.
        :param firewall: the rules; only replies come in if not given.
        """
        name = self.world.unique_name(name or f"firewall {lan}")
        router = Router(self.world, name, firewall=firewall or Firewall())
        return self._behind(router, [], link, lan, lan_link)

    def _behind(
        self,
        router: Router,
        addresses: list[str],
        link: LinkProfile | None,
        lan: str | Iterable[str],
        lan_link: LinkProfile,
    ) -> Realm:
        prefixes = [lan] if isinstance(lan, str) else list(lan)
        inner = Network(self.world, f"behind {router.name}", prefixes)
        own = [str(ipaddress.ip_network(prefix)[1]) for prefix in prefixes]
        router.connect(self.network, addresses, link or self._link, inner, own)
        self.world.routers[router.name] = router
        return Realm(inner, lan_link, router)
