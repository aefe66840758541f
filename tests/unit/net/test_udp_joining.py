"""Tests of joining datagrams that came one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.udp_joining import DatagramJoiner
from dwcloud.net.udp_port import segments

PEERS = [("192.0.2.1", 1), ("192.0.2.1", 2), ("192.0.2.2", 1)]


class RecordingReceiver:
    """Keeps what it is given, whole and taken apart."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, int | None, tuple[str, int]]] = []

    def datagrams_received(
        self, data, segment_size: int | None, address: tuple[str, int]
    ) -> None:
        self.calls.append((data, segment_size, address))

    def datagrams(self) -> list[tuple[bytes, tuple[str, int]]]:
        return [
            (bytes(datagram), address)
            for data, segment_size, address in self.calls
            for datagram in segments(data, segment_size)
        ]


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
