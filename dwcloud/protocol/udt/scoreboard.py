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
from dwcloud.protocol.udt.idle_queue import NOTHING
from dwcloud.protocol.udt.loss_lists import SenderLossList

__all__ = ["Scoreboard"]

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
        self._is_exact = False
        self._end = 0
        self._acknowledged = 0
        self._highest = -1
        self._missing = SenderLossList()
        self._first_losses = 0
        self._repaired = 0
        self._repairs: deque[tuple[float, int]] = NOTHING
        self._repairing = 0
        self._repeated_at: dict[int, float] = {}
        self._flights: deque[_Flight] = NOTHING
        self._known_delivered = 0
        self._known_at = 0.0
        self._preceding_at = 0.0
        self._limited_until = -1
        self._limited_by_peer = False
        self._told_lost = 0

    # What is sent

    def sent(self, first: int, last: int, now: float) -> None:
        """Packets ``first`` to ``last`` leave for the first time."""
        if self._highest == first - 1 and not self._repairing:
            # Nothing was on its way: the pause before tells nothing about the path.
            self._known_delivered = self.delivered
            self._known_at = self._preceding_at = now
        self._end = last + 1
        if not self._flights:
            self._flights = deque()
        self._flights.append(
            _Flight(
                first,
                last,
                now,
                self._known_delivered,
                self._known_at,
                self._preceding_at,
                self.delivered < self._limited_until,
            )
        )

    def sent_again(self, first: int, last: int, now: float) -> None:
        """Packets ``first`` to ``last`` leave once more."""
        count = min(last, self._highest) - first + 1
        if count > 0:
            if not self._repairs:
                self._repairs = deque()
            self._repairs.append((now, count))
            self._repairing += count
        for index in range(first, last + 1):
            self._repeated_at[index] = now

    def limited(self, *, by_peer: bool) -> None:
        """Take note that not the network, but the program or the peer sets the pace."""
        self._limited_until = self.delivered + self.in_flight
        self._limited_by_peer = by_peer

    @property
    def in_flight(self) -> int:
        """How many packets are neither delivered nor known to be lost."""
        return self._end - 1 - self._highest + self._repairing

    # What the peer says

    def acknowledged(self, index: int) -> None:
        """All packets before ``index`` have arrived."""
        self._acknowledged = max(self._acknowledged, index)
        self._highest = max(self._highest, index - 1)
        self._missing.remove_before(index)
        # What is sent again and not missing any more has arrived.
        self._credit(self._repairing - self._missing.count)
        times = self._repeated_at
        if not self._missing:
            times.clear()
        elif len(times) > _FORGET_AFTER + 2 * self._missing.count:
            self._repeated_at = {i: at for i, at in times.items() if i >= index}

    def confirmed(self, index: int, newest: int, early: int) -> bool:
        """Take the receiver's own count: all before ``index``, and ``early`` more.

        :param newest: the index after the newest packet that has arrived.
        :returns: whether anything is new in it.
        """
        if not index <= newest <= self._end or early > newest - index:
            return False
        if index + early <= self.delivered and self._is_exact:
            return False
        self._is_exact = True
        self._highest = max(self._highest, newest - 1)
        counted = self._highest + 1 - self._first_losses
        self._repaired = index + early - counted
        return True

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
                if self._is_exact and repeated_at <= self._preceding_at:
                    self._repaired -= 1
                del self._repeated_at[index]
            if wanted and wanted[-1][1] == index - 1:
                wanted[-1] = (wanted[-1][0], index)
            else:
                wanted.append((index, index))
        return wanted

    def suspect(self, attempt: int) -> int:
        """Return the packet to send again when there is no news.

        The one that the peer waits for, of which a report may have been lost; or, if
        nothing is known to be missing, first the newest, which reveals what is.

        :param attempt: 1, and one more for each in a row.
        """
        newest = self._end - 1
        if self._missing or attempt % 2 == 0:
            # All may have been acknowledged by a light ACK, which releases nothing.
            return min(self._acknowledged, newest)
        return newest

    def expired(self) -> list[tuple[int, int]]:
        """Take all for lost that is not known to have arrived; return it."""
        self._lose(self._acknowledged, self._acknowledged)
        self._lose(self._highest + 1, self._end - 1)
        self._highest = self._end - 1
        self._repairs = NOTHING
        self._repairing = 0
        return self._missing.ranges()

    def _lose(self, first: int, last: int) -> None:
        if first <= min(last, self._end - 1):
            new = self._missing.insert(first, last)
            self._first_losses += new
            self.lost += new

    def news(self, now: float) -> Delivery | None:
        """Return what has changed since the last call, None if nothing has."""
        flight = self._newest_delivered()
        if flight is not None:
            self._credit_before(flight.sent_at)
        delivered = self._highest + 1 - self._first_losses + self._repaired
        newly = delivered - self.delivered
        if newly <= 0 and self.lost == self._told_lost:
            return None
        self._told_lost = self.lost
        self.delivered = max(self.delivered, delivered)
        rate = round_trip = None
        if newly > 0 and flight is not None:
            round_trip = now - flight.sent_at
            shortest = self.shortest_round_trip
            if shortest is None or round_trip < shortest:
                self.shortest_round_trip = round_trip
            rate = self._rate(flight, now)
            self._preceding_at = flight.sent_at
            # A repair tells nothing about what has come meanwhile behind it.
            self._known_delivered, self._known_at = self.delivered, now
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
            limited_by_peer=self._limited_by_peer,
        )

    def _credit_before(self, sent_at: float) -> None:
        """Take for delivered what was sent again before a packet that has arrived."""
        count = 0
        for repaired_at, repaired in self._repairs:
            if repaired_at > sent_at:
                break
            count += repaired
        self._credit(count)

    def _credit(self, count: int) -> None:
        """Take the first ``count`` packets sent again for delivered."""
        repairs = self._repairs
        while count > 0 and repairs:
            repaired_at, repaired = repairs[0]
            taken = min(count, repaired)
            if taken == repaired:
                repairs.popleft()
            else:
                repairs[0] = (repaired_at, repaired - taken)
            count -= taken
            self._repairing -= taken
            if self._is_exact:
                # Otherwise nobody would notice that it was lost again.
                self._repaired += taken
        if not repairs:
            self._repairs = NOTHING

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
        if not flights:
            self._flights = NOTHING
        return newest

    def _rate(self, flight: _Flight, now: float) -> float | None:
        """Return packets per second between two deliveries about a round trip apart.

        The slower of sending and arriving counts, as ACKs may come in bunches.
        """
        elapsed = max(now - flight.delivered_at, flight.sent_at - flight.preceding_at)
        if elapsed <= 0 or elapsed < (self.shortest_round_trip or 0.0) * 0.999:
            return None
        return (self.delivered - flight.delivered) / elapsed
