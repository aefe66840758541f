"""Links between a host or router and its network: delay, loss, rate, queue, MTU."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from .packets import LARGEST_HEADERS, TCP, Packet

if TYPE_CHECKING:
    from .topology import World

__all__ = ["Link", "LinkProfile", "Pipe"]

#: What one lost TCP segment costs at least: the least retransmission timeout of
#: common systems, seconds.
TCP_LOSS_DELAY = 0.2


def _probability(
    instance: object, attribute: attrs.Attribute[float], value: float
) -> None:
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{attribute.name} is a probability below 1, not {value!r}")


@attrs.frozen(kw_only=True)
class LinkProfile:
    """How one direction of a link treats packets.

    :ivar latency: seconds from the last octet sent to its arrival.
    :ivar jitter: up to so many seconds more, evenly spread; the order is kept.
    :ivar loss: probability that a datagram is lost. TCP segments are not lost but
        come late, as if their sender had repeated them.
    :ivar loss_burst: mean number of packets lost together (Gilbert's model).
    :ivar reordering: probability that a datagram is overtaken by those after it.
    :ivar reordering_delay: how late such a datagram is, seconds.
    :ivar duplication: probability that a datagram arrives twice.
    :ivar rate: octets each second, headers included; None for no limit.
    :ivar queue: octets that wait before a limited rate; more are dropped. TCP is
        not dropped, it is told that there is congestion.
    :ivar mtu: the largest packet in octets with headers.
    :ivar fragmentation: whether larger datagrams are cut up (one lost piece loses
        all), or dropped without a word: a path MTU black hole.
    """

    latency: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    jitter: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    loss: float = attrs.field(default=0.0, validator=_probability)
    loss_burst: float = attrs.field(default=1.0, validator=attrs.validators.ge(1))
    reordering: float = attrs.field(default=0.0, validator=_probability)
    reordering_delay: float = attrs.field(
        default=0.01, validator=attrs.validators.ge(0)
    )
    duplication: float = attrs.field(default=0.0, validator=_probability)
    rate: float | None = None
    queue: int = 256 * 1024
    mtu: int = 1500
    fragmentation: bool = True


class Pipe:
    """One direction of a link.

    :ivar profile: how packets are treated; may be replaced at any time.
    :ivar is_up: whether anything gets through at all.
    :ivar at_once: whether packets that take no time are handed on without a turn of
        their own. Only where a host cannot answer within it.
    """

    def __init__(self, world: World, name: str, profile: LinkProfile) -> None:
        self._world = world
        self._random: random.Random = world.random_for(name)
        self._busy_until = 0.0
        self._last_arrival = 0.0
        self._losing = False
        self.name = name
        self.profile = profile
        self.is_up = True
        self.at_once = False

    @property
    def profile(self) -> LinkProfile:
        """How packets are treated."""
        return self._profile

    @profile.setter
    def profile(self, profile: LinkProfile) -> None:
        self._profile = profile
        # Nothing to decide and nothing to wait for but the latency: the usual case.
        self._is_plain = (
            not (profile.jitter or profile.loss)
            and not (profile.reordering or profile.duplication)
            and profile.rate is None
        )

    def carry(self, packet: Packet, deliver: Callable[[Packet], None]) -> None:
        """Take a packet in and hand it to ``deliver`` when it arrives, if it does."""
        profile = self._profile
        if (
            self._is_plain
            and self.is_up
            and len(packet.payload) + LARGEST_HEADERS <= profile.mtu
        ):
            self._carry_plainly(packet, deliver, profile.latency)
            return
        verdict = self._refuse(packet)
        if verdict is not None:
            self._world.trace.add(packet, self.name, verdict)
            return
        now = self._world.seconds()
        arrival = self._departure(packet, now) + profile.latency
        if profile.jitter:
            arrival += self._random.random() * profile.jitter
        if packet.protocol == TCP:
            while self._is_lost(1):
                arrival += TCP_LOSS_DELAY + 2 * profile.latency
        elif profile.reordering and self._random.random() < profile.reordering:
            arrival += profile.reordering_delay
        else:
            arrival = self._last_arrival = max(arrival, self._last_arrival)
        self._world.carry(arrival - now, deliver, packet)
        if (
            profile.duplication
            and packet.protocol != TCP
            and self._random.random() < profile.duplication
        ):
            self._world.carry(arrival - now, deliver, packet)

    def _carry_plainly(
        self, packet: Packet, deliver: Callable[[Packet], None], latency: float
    ) -> None:
        if packet.protocol != TCP:
            now = self._world.scheduler.now
            arrival = now + latency
            if arrival < self._last_arrival:
                # Of a time when the link was slower; datagrams keep their order.
                latency = self._last_arrival - now
            else:
                self._last_arrival = arrival
        if self.at_once and not latency:
            deliver(packet)
        else:
            self._world.carry(latency, deliver, packet)

    def _refuse(self, packet: Packet) -> str | None:
        profile = self._profile
        if not self.is_up:
            return "link down"
        fragments = 1
        if packet.size > profile.mtu and packet.protocol != TCP:
            if not profile.fragmentation:
                return "larger than the MTU"
            fragments = -(-packet.size // profile.mtu)
        if packet.protocol == TCP:
            return None
        if self._is_lost(fragments):
            return "lost"
        if profile.rate is not None:
            waiting = (self._busy_until - self._world.seconds()) * profile.rate
            if waiting + packet.size > profile.queue:
                return "queue full"
        return None

    def _is_lost(self, fragments: int) -> bool:
        profile = self._profile
        if not profile.loss:
            return False
        lost = False
        for _ in range(fragments):
            if self._losing:
                self._losing = self._random.random() >= 1.0 / profile.loss_burst
            if not self._losing:
                # So many bursts begin that the mean share lost is `loss`.
                begin = profile.loss / (
                    profile.loss_burst * (1 - profile.loss) + profile.loss
                )
                self._losing = self._random.random() < begin
            lost = lost or self._losing
        return lost

    def _departure(self, packet: Packet, now: float) -> float:
        """Return when the last octet of the packet has left."""
        rate = self._profile.rate
        if rate is None:
            return now
        begin = max(now, self._busy_until)
        if (begin - now) * rate > self._profile.queue / 2:
            packet.congested = True
        self._busy_until = begin + packet.size / rate
        return self._busy_until


class Link:
    """Both directions between an interface and its network.

    :ivar up: from the interface to the network.
    :ivar down: from the network to the interface.
    """

    def __init__(self, world: World, name: str, profile: LinkProfile) -> None:
        self.up = Pipe(world, f"{name} up", profile)
        self.down = Pipe(world, f"{name} down", profile)

    def configure(self, **changes: Any) -> None:
        """Change properties of :class:`LinkProfile` in both directions."""
        for pipe in (self.up, self.down):
            pipe.profile = attrs.evolve(pipe.profile, **changes)

    def cut(self) -> None:
        """Let nothing through from now on; what is under way still arrives."""
        self.up.is_up = self.down.is_up = False

    def restore(self) -> None:
        """Let packets through again."""
        self.up.is_up = self.down.is_up = True
