"""Lost packets, as ranges of indices: what to repeat, and what to ask for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from heapq import heapify, heappop, heappush

import attrs

__all__ = ["Gap", "ReceiverLossList", "SenderLossList"]

_STALE_REPORTS = 64


class SenderLossList:
    """Packets to be sent again, lowest first.

    Ranges are kept sorted, disjoint and not adjacent, so the cost depends on the
    number of gaps, not of packets.
    """

    __slots__ = ("_ends", "_starts", "count")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.count = 0
        """How many packets are in it."""

    def __bool__(self) -> bool:
        return bool(self._starts)

    def ranges(self) -> list[tuple[int, int]]:
        """Return first and last index of each range."""
        return list(zip(self._starts, self._ends, strict=True))

    def insert(self, first: int, last: int) -> int:
        """Add a range, both ends included; return how many packets were new."""
        low = bisect_left(self._ends, first - 1)
        high = bisect_right(self._starts, last + 1)
        covered = 0
        if low < high:
            covered = sum(self._ends[i] - self._starts[i] + 1 for i in range(low, high))
            first = min(first, self._starts[low])
            last = max(last, self._ends[high - 1])
        self._starts[low:high] = [first]
        self._ends[low:high] = [last]
        new = last - first + 1 - covered
        self.count += new
        return new

    def remove_before(self, index: int) -> None:
        """Forget all packets before ``index``."""
        if not self._starts or self._starts[0] >= index:
            return
        gone = bisect_left(self._ends, index)
        for i in range(gone):
            self.count -= self._ends[i] - self._starts[i] + 1
        del self._starts[:gone], self._ends[:gone]
        if self._starts and self._starts[0] < index:
            self.count -= index - self._starts[0]
            self._starts[0] = index

    def remove(self, first: int, last: int) -> int:
        """Forget a range, both ends included; return how many packets were in it."""
        low = bisect_left(self._ends, first)
        high = bisect_right(self._starts, last)
        if low >= high:
            return 0
        gone = sum(self._ends[i] - self._starts[i] + 1 for i in range(low, high))
        before, after = self._starts[low], self._ends[high - 1]
        starts: list[int] = []
        ends: list[int] = []
        if before < first:
            starts.append(before)
            ends.append(first - 1)
        if after > last:
            starts.append(last + 1)
            ends.append(after)
        self._starts[low:high], self._ends[low:high] = starts, ends
        gone -= sum(end - start + 1 for start, end in zip(starts, ends, strict=True))
        self.count -= gone
        return gone

    def pop_first(self, limit: int) -> tuple[int, int]:
        """Remove and return up to ``limit`` consecutive packets, the lowest.

        :raises IndexError: if there is none.
        """
        first, last = self._starts[0], self._ends[0]
        if last - first + 1 > limit:
            last = first + limit - 1
            self._starts[0] = last + 1
        else:
            del self._starts[0], self._ends[0]
        self.count -= last - first + 1
        return first, last


@attrs.define
class Gap:
    """A range of missing packets.

    :ivar found_at: when it was noticed, in seconds.
    :ivar timestamp: that of the packet which revealed it, in the peer's clock.
    :ivar report_at: when to report it (again), in seconds.
    :ivar reports: how often it has been reported.
    """

    first: int
    last: int
    found_at: float
    timestamp: int
    report_at: float
    reports: int = 0

    @property
    def is_closed(self) -> bool:
        """Whether all of it has arrived."""
        return self.first > self.last


class ReceiverLossList:
    """Packets that are missing between received ones, in order.

    Reports are planned in a heap, so that a packet costs no walk over all gaps.

    :ivar packets: how many packets are missing.
    """

    def __init__(self) -> None:
        self._gaps: list[Gap] = []
        self._reports: list[tuple[float, int, Gap]] = []
        self._planned = 0
        self.packets = 0

    def __bool__(self) -> bool:
        return bool(self._gaps)

    def __len__(self) -> int:
        return len(self._gaps)

    @property
    def first(self) -> int | None:
        """The lowest missing index, or None."""
        return self._gaps[0].first if self._gaps else None

    @property
    def next_report_at(self) -> float | None:
        """When a gap is to be reported, in seconds; None when there is none at all."""
        reports = self._reports
        while reports and reports[0][2].is_closed:
            heappop(reports)
        return reports[0][0] if reports else None

    def ranges(self) -> list[tuple[int, int]]:
        """Return first and last index of each gap."""
        return [(gap.first, gap.last) for gap in self._gaps]

    def append(self, gap: Gap) -> None:
        """Add a gap above all others."""
        self._gaps.append(gap)
        self.packets += gap.last - gap.first + 1
        self._plan(gap)

    def _plan(self, gap: Gap) -> None:
        if len(self._reports) > 2 * len(self._gaps) + _STALE_REPORTS:
            live = [report for report in self._reports if not report[2].is_closed]
            heapify(live)
            self._reports = live
        self._planned += 1
        heappush(self._reports, (gap.report_at, self._planned, gap))

    def remove(self, index: int) -> Gap | None:
        """Take out a packet that has arrived; return its gap, None if not missing."""
        position = bisect_right(self._gaps, index, key=_first) - 1
        if position < 0:
            return None
        gap = self._gaps[position]
        if index > gap.last:
            return None
        self.packets -= 1
        if gap.first == gap.last:
            del self._gaps[position]
            gap.first = gap.last + 1
        elif index == gap.first:
            gap.first += 1
        elif index == gap.last:
            gap.last -= 1
        else:
            rest = attrs.evolve(gap, first=index + 1)
            gap.last = index - 1
            self._gaps.insert(position + 1, rest)
            self._plan(rest)
        return gap

    def take_due(
        self, now: float, repetition: float, limit: int, *, backs_off: bool = True
    ) -> list[tuple[int, int]]:
        """Return the gaps to report now and plan their next report.

        :param repetition: seconds until a gap is reported again.
        :param backs_off: multiply that by the number of reports so far, so that
            repetitions become rare.
        :param limit: the most gaps to return; the others stay due.
        """
        due: list[Gap] = []
        while len(due) < limit:
            at = self.next_report_at
            if at is None or at > now:
                break
            due.append(heappop(self._reports)[2])
        for gap in due:
            gap.reports += 1
            gap.report_at = now + repetition * (gap.reports if backs_off else 1)
            self._plan(gap)
        return sorted((gap.first, gap.last) for gap in due)


def _first(gap: Gap) -> int:
    return gap.first
