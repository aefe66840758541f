"""The world and the builders of its networks."""

from __future__ import annotations

import ipaddress
import itertools
import random
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dwcloud.protocol.addresses import Address

from .hosts import Host
from .links import LinkProfile
from .network import Network
from .packets import Packet, canonical_host
from .scheduler import Scheduler
from .trace import Trace

__all__ = ["Realm", "SimulationTimeout", "World"]

T = TypeVar("T")

#: The link of an Internet host unless told otherwise: 20 ms from host to host and back.
INTERNET_LINK = LinkProfile(latency=0.005)
#: The link of a host in a LAN: 1 ms there and back.
LAN_LINK = LinkProfile(latency=0.00025)


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
        host: Host,
        protocol: str,
        source: Address,
        destination: Address,
        payload: bytes,
    ) -> Packet:
        """Return a packet that ``host`` is about to send."""
        return Packet(
            protocol=protocol,
            source=source,
            destination=destination,
            payload=payload,
            number=self.next_number(),
            origin=host.name,
            sent_at=self.seconds(),
        )

    def carry(
        self, delay: float, deliver: Callable[[Packet], None], packet: Packet
    ) -> None:
        """Hand a packet to ``deliver`` after ``delay`` seconds."""
        self._under_way += 1
        self.scheduler.schedule(delay, self._arrive, deliver, packet)

    def _arrive(self, deliver: Callable[[Packet], None], packet: Packet) -> None:
        self._under_way -= 1
        deliver(packet)

    # Building

    def add_name(self, name: str, *addresses: str) -> None:
        """Let every host resolve ``name`` to these addresses."""
        self.names[name.lower()] = [canonical_host(address) for address in addresses]

    def unique_name(self, name: str) -> str:
        """Return ``name``, with a number if a host or router has it already."""
        if name not in self.hosts:
            return name
        return next(
            candidate
            for number in itertools.count(2)
            if (candidate := f"{name} {number}") not in self.hosts
        )

    def internet(self, link: LinkProfile = INTERNET_LINK) -> Realm:
        """Return a new public network; ``link`` is the default of its members."""
        return Realm(Network(self, "internet", ["0.0.0.0/0", "::/0"]), link)

    def lan(
        self, *prefixes: str, name: str = "lan", link: LinkProfile = LAN_LINK
    ) -> Realm:
        """Return a network that is connected to nothing else."""
        return Realm(Network(self, name, prefixes or ["192.168.1.0/24"]), link)


class Realm:
    """A network to build in: the Internet or a LAN.

    :ivar network: the network itself.
    """

    def __init__(self, network: Network, link: LinkProfile) -> None:
        self.network = network
        self.world = network.world
        self._link = link

    def host(
        self, *addresses: str, name: str | None = None, link: LinkProfile | None = None
    ) -> Host:
        """Add a host.

        :param addresses: IPv4 and IPv6 addresses, the first of a family its default.
        :param name: in the trace; the first address if not given.
        :param link: its link to the network.
        """
        for address in addresses:
            ipaddress.ip_address(address)
        host = Host(self.world, self.world.unique_name(name or addresses[0]))
        self.world.hosts[host.name] = host
        host.attach(self.network, addresses, link or self._link)
        return host

    def attach(
        self, host: Host, *addresses: str, link: LinkProfile | None = None
    ) -> None:
        """Give a host one more interface, in this network."""
        host.attach(self.network, addresses, link or self._link)
