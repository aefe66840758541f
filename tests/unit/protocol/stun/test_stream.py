"""Cutting a stream into messages."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage
from dwcloud.protocol.stun.stream import StreamDecoder
from tests.unit.protocol.stun.strategies import messages

RAW = STUNMessage(
    1, MessageClass.REQUEST, bytes(12), (RawAttribute(0x8022, b"abcd"),)
).encode()


class StreamDecoderTests(SynchronousTestCase):
    """StreamDecoder."""

    @given(st.lists(messages, max_size=5), st.data())
    def test_any_chunks(self, sent: list[STUNMessage], data: st.DataObject) -> None:
        """Messages come out whole and in order, wherever the stream was cut."""
        stream = b"".join(message.encode() for message in sent)
        decoder = StreamDecoder()
        received: list[bytes] = []
        while stream:
            size = data.draw(st.integers(1, len(stream)))
            received += decoder.receive_data(stream[:size])
            stream = stream[size:]
        self.assertEqual([STUNMessage.decode(raw) for raw in received], sent)
        self.assertIsNone(decoder.failure)
        self.assertEqual(decoder.buffered_bytes, 0)

    @given(st.lists(st.binary(max_size=60), max_size=5))
    def test_any_bytes(self, chunks: list[bytes]) -> None:
        """Garbage is a failure or an incomplete message, never an exception."""
        decoder = StreamDecoder(max_message=100)
        for chunk in chunks:
            decoder.receive_data(chunk)
            self.assertLessEqual(decoder.buffered_bytes, 100)

    def test_messages_before_garbage(self) -> None:
        """What came before the garbage is delivered; what comes after is not."""
        decoder = StreamDecoder()
        self.assertEqual(decoder.receive_data(RAW + b"GET / HTTP/1.1"), [RAW])
        self.assertIsNotNone(decoder.failure)
        self.assertEqual(decoder.receive_data(RAW), [])
        self.assertEqual(decoder.buffered_bytes, 0)

    def test_fails_early(self) -> None:
        """Another protocol is noticed at its first bytes."""
        for garbage in (b"G", b"\x16", RAW[:4] + b"\x22"):
            decoder = StreamDecoder()
            decoder.receive_data(garbage)
            failed_early = decoder.failure is not None
            self.assertEqual(failed_early, garbage != b"\x16")

    def test_too_long(self) -> None:
        """The announced length is enough to refuse a message."""
        decoder = StreamDecoder(max_message=len(RAW) - 4)
        decoder.receive_data(RAW[:20])
        assert decoder.failure is not None
        self.assertEqual(decoder.failure.code, 413)
        fitting = StreamDecoder(max_message=len(RAW))
        self.assertEqual(fitting.receive_data(RAW), [RAW])

    def test_odd_length(self) -> None:
        """A length that is no multiple of 4 cannot be."""
        decoder = StreamDecoder()
        decoder.receive_data(RAW[:3] + b"\x09" + RAW[4:])
        self.assertIsNotNone(decoder.failure)
