"""Tests of joining datagrams that came one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.udp_joining import MAX_DATAGRAM, DatagramCollector, DatagramJoiner
from dwcloud.net.udp_port import segments

PEERS = [("192.0.2.1", 1), ("192.0.2.1", 2), ("192.0.2.2", 1)]


class RecordingReceiver:
    """Keeps what it is given, whole and taken apart."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, int | None, tuple[str, int]]] = []

    def datagrams_received(
        self, data, segment_size: int | None, address: tuple[str, int]
    ) -> None:
        self.calls.append((bytes(data), segment_size, address))

    def datagrams(self) -> list[tuple[bytes, tuple[str, int]]]:
        return [
            (bytes(datagram), address)
            for data, segment_size, address in self.calls
            for datagram in segments(data, segment_size)
        ]


class DatagramCollectorTests(SynchronousTestCase):
    """What was collected in one buffer can be taken apart again."""

    def setUp(self) -> None:
        self.receiver = RecordingReceiver()
        self.collector = DatagramCollector(self.receiver)  # type: ignore[arg-type]

    def receive(
        self,
        collector: DatagramCollector,
        data: bytes,
        segment_size: int,
        address: tuple[str, int],
    ) -> None:
        """Do what a port does."""
        room = collector.room
        self.assertGreaterEqual(len(room), MAX_DATAGRAM)
        room[: len(data)] = data
        collector.received(len(data), min(len(data), segment_size), address)

    @given(
        st.lists(
            st.tuples(
                st.integers(1, 9) | st.integers(1, 9000),
                st.sampled_from([1, 2, 3, 1000, 1472]),
                st.sampled_from(PEERS),
                st.booleans(),
            ),
            max_size=60,
        )
    )
    def test_any(self, arrivals: list[tuple[int, int, tuple[str, int], bool]]) -> None:
        """The same datagrams of the same addresses in the same order."""
        receiver = RecordingReceiver()
        collector = DatagramCollector(receiver)  # type: ignore[arg-type]
        expected = []
        for number, (size, segment_size, address, flushed) in enumerate(arrivals):
            data = (b"%05d" % number * (size // 5 + 1))[:size]
            self.receive(collector, data, segment_size, address)
            expected += [(part, address) for part in segments(data, segment_size)]
            if flushed:
                collector.flush()
        collector.flush()
        self.assertEqual(receiver.datagrams(), expected)

    def test_together(self) -> None:
        """Equal ones of one address make one call, which a shorter one ends."""
        for data in (b"aabb", b"cc", b"d", b"eeff"):
            self.receive(self.collector, data, 2, PEERS[0])
        self.collector.flush()
        self.collector.flush()
        self.assertEqual(
            self.receiver.calls, [(b"aabbccd", 2, PEERS[0]), (b"eeff", 2, PEERS[0])]
        )

    def test_bounded(self) -> None:
        """So much is passed on at once, and no more is kept."""
        for _ in range(8):
            self.receive(self.collector, bytes(64768), 1472, PEERS[0])
        self.receive(self.collector, bytes(65535), 65535, PEERS[0])
        self.collector.flush()
        sizes = [len(data) for data, _, _ in self.receiver.calls]
        self.assertEqual(sum(sizes), 8 * 64768 + 65535)
        self.assertLess(max(sizes), 400_000)
        self.assertGreater(sizes[0], 200_000)


class DatagramJoinerTests(SynchronousTestCase):
    """What is joined can be taken apart again."""

    def setUp(self) -> None:
        self.receiver = RecordingReceiver()
        self.joiner = DatagramJoiner(self.receiver)  # type: ignore[arg-type]

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([b"", b"a", b"bc", b"de", b"fgh"]),
                st.sampled_from(PEERS),
                st.booleans(),
            ),
            max_size=100,
        )
    )
    def test_any(self, arrivals: list[tuple[bytes, tuple[str, int], bool]]) -> None:
        """The same datagrams of the same addresses in the same order."""
        receiver = RecordingReceiver()
        joiner = DatagramJoiner(receiver)  # type: ignore[arg-type]
        for datagram, address, flushed in arrivals:
            joiner.take(datagram, address)
            if flushed:
                joiner.flush()
        joiner.flush()
        self.assertEqual(receiver.datagrams(), [arrival[:2] for arrival in arrivals])

    def test_joined(self) -> None:
        """Equal ones of one address make one call, which a shorter one ends."""
        for datagram in (b"aa", b"bb", b"c", b"dd"):
            self.joiner.take(datagram, PEERS[0])
        self.joiner.flush()
        self.joiner.flush()
        self.assertEqual(
            self.receiver.calls, [(b"aabbc", 2, PEERS[0]), (b"dd", None, PEERS[0])]
        )

    def test_bounded(self) -> None:
        """No more than 64 wait."""
        for _ in range(64):
            self.joiner.take(b"a", PEERS[0])
        self.assertEqual(self.receiver.calls, [(b"a" * 64, 1, PEERS[0])])
