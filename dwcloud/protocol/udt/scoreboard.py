"""What has reached the peer, judged from its cumulative ACKs and its loss reports.

UDT acknowledges only what is complete from the start, so that one missing packet hides
for a round trip all that came after it. A loss report says more: everything up to the
packet behind its last gap has arrived, apart from what was reported. The scoreboard
puts both together, for controllers that need to know how fast packets are delivered
and how many are on their way. It works with any peer, however late it acknowledges.
"""

from __future__ import annotations

from collections import deque

import attrs

from dwcloud.protocol.udt.congestion.base import Delivery
from dwcloud.protocol.udt.loss_lists import SenderLossList

__all__ = ["Scoreboard"]

_REPAIR_ROUND_TRIPS = 1.25
_REPAIR_MARGIN = 0.005
_FORGET_AFTER = 256


@attrs.define
class _Flight:
    """Packets sent together for the first time, and how things stood then.

    :ivar delivered: packets delivered when it left.
    :ivar delivered_at: when the last of those was, in seconds.
    :ivar preceding_at: when the newest of those had been sent, in seconds.
    :ivar limited: whether the program or the peer kept the sender from sending more.
    """

    first: int
    last: int
    sent_at: float
    delivered: int
    delivered_at: float
    preceding_at: float
    limited: bool


class Scoreboard:
    """Counts packets sent, delivered, reported lost and on their way; all by index.

    :ivar delivered: how many packets have reached the peer.
    :ivar lost: how many losses were reported, a packet lost twice counting twice.
    :ivar shortest_round_trip: the least ever seen, in seconds; None before the first.
    """

    def __init__(self) -> None:
        self.delivered = 0
        self.lost = 0
        self.shortest_round_trip: float | None = None
        self._end = 0
        self._highest = -1
        self._missing = SenderLossList()
        self._first_losses = 0
        self._repaired = 0
        self._repairs: deque[tuple[float, int]] = deque()
        self._repairing = 0
        self._repeated_at: dict[int, float] = {}
        self._flights: deque[_Flight] = deque()
        self._delivered_at = 0.0
        self._preceding_at = 0.0
        self._limited_until = -1
        self._told_lost = 0

    # What is sent

    def sent(self, first: int, last: int, now: float) -> None:
        """Packets ``first`` to ``last`` leave for the first time."""
        if self._highest == first - 1 and not self._repairing:
            # Nothing was on its way: the pause before tells nothing about the path.
            self._delivered_at = self._preceding_at = now
        self._end = last + 1
        self._flights.append(
            _Flight(
                first,
                last,
                now,
                self.delivered,
                self._delivered_at,
                self._preceding_at,
                self.delivered < self._limited_until,
            )
        )

    def sent_again(self, first: int, last: int, now: float) -> None:
        """Packets ``first`` to ``last`` leave once more."""
        count = min(last, self._highest) - first + 1
        if count > 0:
            self._repairs.append((now, count))
            self._repairing += count
        for index in range(first, last + 1):
            self._repeated_at[index] = now

    def limited(self) -> None:
        """Take note that not the network, but the program or the peer sets the pace."""
        self._limited_until = self.delivered + self.in_flight

    @property
    def in_flight(self) -> int:
        """How many packets are neither delivered nor known to be lost."""
        return self._end - 1 - self._highest + self._repairing

    # What the peer says

    def acknowledged(self, index: int) -> None:
        """All packets before ``index`` have arrived."""
        self._highest = max(self._highest, index - 1)
        self._missing.remove_before(index)
        times = self._repeated_at
        if not self._missing:
            times.clear()
        elif len(times) > _FORGET_AFTER + 2 * self._missing.count:
            self._repeated_at = {i: at for i, at in times.items() if i >= index}

    def reported(self, first: int, last: int, now: float) -> list[tuple[int, int]]:
        """Packets ``first`` to ``last`` are missing; return those to send again.

        A report that left before a repetition could arrive does not count.
        """
        self._highest = max(self._highest, min(last + 1, self._end - 1))
        new = self._missing.insert(first, last)
        self._first_losses += new
        self.lost += new
        if new == last - first + 1:
            return [(first, last)]
        stale_after = now - (self.shortest_round_trip or 0.0)
        wanted: list[tuple[int, int]] = []
        for index in range(first, last + 1):
            repeated_at = self._repeated_at.get(index)
            if repeated_at is not None:
                if repeated_at > stale_after:
                    continue
                self.lost += 1
                del self._repeated_at[index]
            if wanted and wanted[-1][1] == index - 1:
                wanted[-1] = (wanted[-1][0], index)
            else:
                wanted.append((index, index))
        return wanted

    def news(self, now: float) -> Delivery | None:
        """Return what has changed since the last call, None if nothing has."""
        self._count_repairs(now)
        delivered = self._highest + 1 - self._first_losses + self._repaired
        newly = delivered - self.delivered
        if newly <= 0 and self.lost == self._told_lost:
            return None
        self._told_lost = self.lost
        self.delivered = max(self.delivered, delivered)
        flight = self._newest_delivered()
        rate = round_trip = None
        if newly > 0:
            if flight is not None:
                round_trip = now - flight.sent_at
                shortest = self.shortest_round_trip
                if shortest is None or round_trip < shortest:
                    self.shortest_round_trip = round_trip
                rate = self._rate(flight, now)
                self._preceding_at = flight.sent_at
            self._delivered_at = now
        return Delivery(
            now=now,
            delivered=self.delivered,
            newly_delivered=max(0, newly),
            lost=self.lost,
            packets_in_flight=self.in_flight,
            rate=rate,
            round_trip=round_trip,
            delivered_before=None if flight is None else flight.delivered,
            limited=flight is not None and flight.limited,
        )

    def _count_repairs(self, now: float) -> None:
        """Take repetitions for delivered when a report would have come otherwise."""
        wait = _REPAIR_ROUND_TRIPS * (self.shortest_round_trip or 0.0) + _REPAIR_MARGIN
        repairs = self._repairs
        while repairs and repairs[0][0] + wait <= now:
            _, count = repairs.popleft()
            self._repairing -= count
            self._repaired += count

    def _newest_delivered(self) -> _Flight | None:
        """Return the flight of the newest delivered packet if it was not told yet."""
        newest = None
        flights = self._flights
        while flights and flights[0].first <= self._highest:
            newest = flights[0]
            if newest.last > self._highest:
                newest.first = self._highest + 1
                break
            flights.popleft()
        return newest

    def _rate(self, flight: _Flight, now: float) -> float | None:
        """Return packets per second between two deliveries about a round trip apart.

        The slower of sending and arriving counts, as ACKs may come in bunches.
        """
        elapsed = max(now - flight.delivered_at, flight.sent_at - flight.preceding_at)
        if elapsed <= 0 or elapsed < (self.shortest_round_trip or 0.0) * 0.999:
            return None
        return (self.delivered - flight.delivered) / elapsed
