"""The record of every packet: which path carried which bytes, and what got lost."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from dwcloud.protocol.addresses import Address, format_address

from .packets import Packet

__all__ = ["DELIVERED", "PacketRecord", "Trace"]

#: The verdict on a packet that reached a host.
DELIVERED = "delivered"


class PacketRecord(NamedTuple):
    """The end of one packet.

    :ivar time: when it ended, seconds of simulated time.
    :ivar number: of the packet, in the order of sending.
    :ivar protocol: ``udp`` or ``tcp``.
    :ivar origin: name of the host that sent it.
    :ivar place: name of the host, router or link where it ended.
    :ivar source: the source address as seen there (a NAT may have changed it).
    :ivar destination: the destination address as seen there.
    :ivar kind: ``datagram``, ``syn``, ``syn+ack``, ``data``, ``ack+fin`` and so on.
    :ivar payload_size: octets without headers.
    :ivar verdict: ``delivered``, or why it was dropped.
    """

    time: float
    number: int
    protocol: str
    origin: str
    place: str
    source: Address
    destination: Address
    kind: str
    payload_size: int
    verdict: str

    @property
    def delivered(self) -> bool:
        """Whether the packet reached a host."""
        return self.verdict == DELIVERED

    def __str__(self) -> str:
        return (
            f"{self.time:.6f} #{self.number} {self.protocol} {self.origin} "
            f"{format_address(self.source)} > {format_address(self.destination)} "
            f"{self.kind} {self.payload_size} {self.verdict} at {self.place}"
        )


class Trace:
    """What became of the packets of a world.

    The records are bounded (the oldest go); the counters and the digest cover all.
    """

    def __init__(self, seconds: Callable[[], float], limit: int) -> None:
        self._seconds = seconds
        self._records: deque[PacketRecord] = deque(maxlen=limit)
        self._bytes: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._packets: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._verdicts: defaultdict[str, int] = defaultdict(int)
        self._digest = hashlib.sha256()
        # Records at the end of the kept ones that the digest does not cover yet: most
        # runs never ask for it.
        self._undigested = 0

    def add(self, packet: Packet, place: str, verdict: str) -> None:
        """Record that ``packet`` ended at ``place``."""
        size = len(packet.payload)
        record = PacketRecord(
            self._seconds(),
            packet.number,
            packet.protocol,
            packet.origin,
            place,
            packet.source,
            packet.destination,
            packet.kind,
            size,
            verdict,
        )
        records = self._records
        if self._undigested == records.maxlen:
            self._bring_digest_up_to_date()
        records.append(record)
        self._undigested += 1
        self._verdicts[verdict] += 1
        if verdict == DELIVERED:
            key = packet.origin, place, packet.protocol
            self._bytes[key] += size
            self._packets[key] += 1

    def _bring_digest_up_to_date(self) -> None:
        covered = len(self._records) - self._undigested
        for record in islice(self._records, covered, None):
            self._digest.update(str(record).encode())
        self._undigested = 0

    def __iter__(self) -> Iterator[PacketRecord]:
        return iter(tuple(self._records))

    def __len__(self) -> int:
        return len(self._records)

    def select(
        self,
        *,
        origin: str | None = None,
        place: str | None = None,
        protocol: str | None = None,
        verdict: str | None = None,
    ) -> list[PacketRecord]:
        """Return the kept records that agree with everything given."""
        return [
            record
            for record in self._records
            if (origin is None or record.origin == origin)
            and (place is None or record.place == place)
            and (protocol is None or record.protocol == protocol)
            and (verdict is None or record.verdict == verdict)
        ]

    def bytes_carried(
        self,
        origin: str | None = None,
        place: str | None = None,
        protocol: str | None = None,
    ) -> int:
        """Return the payload octets delivered from host ``origin`` to host ``place``.

        None stands for any. NATs and routers on the way do not matter, only where
        the packet started and where it arrived: a connection through a relay shows
        as bytes to the relay and bytes from it, and none between the peers.
        """
        return _total(self._bytes, origin, place, protocol)

    def packets_carried(
        self,
        origin: str | None = None,
        place: str | None = None,
        protocol: str | None = None,
    ) -> int:
        """Return the number of packets delivered; as :meth:`bytes_carried`."""
        return _total(self._packets, origin, place, protocol)

    @property
    def verdicts(self) -> dict[str, int]:
        """How many packets ended with each verdict."""
        return dict(self._verdicts)

    def digest(self) -> str:
        """Return a hash over all records: equal for runs with the same seed."""
        self._bring_digest_up_to_date()
        return self._digest.hexdigest()

    def clear(self) -> None:
        """Forget records and counters, to count from here on."""
        self._records.clear()
        self._bytes.clear()
        self._packets.clear()
        self._verdicts.clear()
        self._digest = hashlib.sha256()
        self._undigested = 0


def _total(counters: dict[tuple[str, str, str], int], *wanted: str | None) -> int:
    return sum(
        count
        for key, count in counters.items()
        if all(w is None or w == k for w, k in zip(wanted, key, strict=True))
    )
