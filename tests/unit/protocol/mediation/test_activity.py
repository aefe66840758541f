"""What servers tell of their streams, as bytes."""

from __future__ import annotations

import uuid

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.activity import MAX_TOLD, Activity, RunningStream
from dwcloud.protocol.mediation.messages import ActivityReport
from dwcloud.protocol.stun.stream import MAX_STREAM_MESSAGE

STREAM = RunningStream(
    number=7,
    path="relay",
    session=uuid.UUID(int=5),
    age=61,
    to_client=1_000_000,
    to_server=20,
    account="alice",
    client="laptop",
)


class ActivityTests(SynchronousTestCase):
    """An activity on the wire."""

    def test_layout(self) -> None:
        """The bytes are those of the documentation (docs/protocol/mediation)."""
        expected = (
            "0001 00000007 04 00000000000000000000000000000005 0000003d"
            " 00000000000f4240 0000000000000014 05 06"
        )
        encoded = Activity(1, (STREAM,)).encode()
        self.assertEqual(encoded, bytes.fromhex(expected) + b"alicelaptop")

    def test_lan_has_no_session(self) -> None:
        """A stream that no mediator introduced names no session."""
        stream = attrs.evolve(STREAM, session=None, path="lan")
        decoded = Activity.decode(Activity(1, (stream,)).encode())
        self.assertEqual(decoded.streams, (stream,))

    def test_many(self) -> None:
        """Of many streams those that began last are told, and how many there are."""
        streams = tuple(attrs.evolve(STREAM, number=n) for n in range(100))
        decoded = Activity.decode(Activity(100, streams).encode())
        self.assertEqual(decoded.count, 100)
        self.assertEqual(decoded.streams, streams[-MAX_TOLD:])

    def test_longest(self) -> None:
        """The longest report is one that a control channel takes."""
        stream = attrs.evolve(STREAM, account="é" * 200, client="x" * 500)
        report = ActivityReport(activity=Activity(99, (stream,) * 99))
        encoded = report.to_stun(bytes(12)).encode()
        self.assertLess(len(encoded), MAX_STREAM_MESSAGE - 100)

    @given(st.text(max_size=300))
    def test_any_name(self, name: str) -> None:
        """Whatever a client calls itself can be told, if shortened or masked."""
        stream = attrs.evolve(STREAM, client=name)
        [told] = Activity.decode(Activity(1, (stream,)).encode()).streams
        self.assertTrue(told.client.isprintable())
        if name.isprintable() and len(name.encode("utf-8", "replace")) <= 128:
            self.assertEqual(told.client, name)

    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are an activity, or refused as malformed."""
        try:
            activity = Activity.decode(data)
        except RemoteProtocolError as error:
            self.assertEqual(error.code, 400)
        else:
            self.assertEqual(activity.encode(), data)

    @given(st.integers(0, 60))
    def test_cut_off(self, length: int) -> None:
        """A report that is cut off anywhere within a stream is refused."""
        data = Activity(1, (STREAM,)).encode()
        if 2 < length < len(data):
            self.assertRaises(RemoteProtocolError, Activity.decode, data[:length])

    def test_unprintable(self) -> None:
        """A name that would move a cursor is refused."""
        data = Activity(1, (STREAM,)).encode().replace(b"laptop", b"lap\x1bop")
        self.assertRaises(RemoteProtocolError, Activity.decode, data)
