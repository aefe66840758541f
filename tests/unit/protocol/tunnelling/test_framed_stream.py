"""A byte stream in frames: any pieces, padding, ends, nonsense, time."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.tunnelling.framed_stream import (
    KEEP_ALIVE,
    LARGEST_FRAME,
    SILENCE,
    FramedStream,
    Framing,
    LengthFraming,
)
from dwcloud.protocol.tunnelling.websocket import (
    WebSocketFraming,
    accept_websocket,
    why_unavailable,
)
from tests.requirements import require

PIECES = st.lists(st.binary(max_size=40_000), max_size=5)


class LengthFramingTests(SynchronousTestCase):
    """Frames in an endless body."""

    def framings(self) -> tuple[Framing, Framing]:
        """The client's and the server's."""
        return LengthFraming(), LengthFraming()

    def pair(self) -> tuple[FramedStream, FramedStream]:
        client, server = self.framings()
        return FramedStream(client, now=0.0), FramedStream(server, now=0.0)

    @given(PIECES, st.integers(1, 5000), st.booleans())
    def test_any_pieces(self, pieces: list[bytes], size: int, upwards: bool) -> None:
        """However the carrier divides the bytes, the same stream comes out."""
        self.check_pieces(pieces, size, upwards)

    def check_pieces(self, pieces: list[bytes], size: int, upwards: bool) -> None:
        one, other = self.pair() if upwards else reversed(self.pair())
        wire = b""
        for number, piece in enumerate(pieces):
            one.sender.write(piece)
            # Padding in between is not noticed.
            wire += one.data_to_send(now=float(number) * KEEP_ALIVE)
        one.sender.finish()
        wire += one.data_to_send(now=0.0)
        for at in range(0, len(wire), size):
            other.receive_data(wire[at : at + size], now=0.0)
        self.assertEqual(other.lost, "")
        self.assertEqual(other.receiver.read(), b"".join(pieces))
        self.assertTrue(other.receiver.ended)

    @given(st.binary(max_size=200))
    def test_nonsense(self, data: bytes) -> None:
        """Any bytes are survived, and what is written stays possible."""
        self.check_nonsense(data)

    def check_nonsense(self, data: bytes) -> None:
        _, stream = self.pair()
        stream.receive_data(data, now=0.0)
        stream.receive_data(data, now=0.0)
        stream.sender.write(b"x")
        stream.sender.finish()
        stream.data_to_send(now=0.0)

    def test_both_ends(self) -> None:
        """The stream is over when both directions are, and only then."""
        client, server = self.pair()
        server.receive_data(self.closing(client), now=0.0)
        self.assertFalse(server.closed)
        server.sender.write(b"late")
        client.receive_data(self.closing(server), now=0.0)
        self.assertEqual(client.receiver.read(), b"late")
        for end in (client, server):
            self.assertTrue(end.closed)
            self.assertEqual(end.lost, "")
            self.assertEqual(end.next_timer(), math.inf)
            end.receive_loss("the connection is gone")
            self.assertEqual(end.lost, "")

    def closing(self, stream: FramedStream) -> bytes:
        stream.sender.finish()
        return stream.data_to_send(now=0.0)

    def test_kept_alive(self) -> None:
        """Something is sent in time, and taken as nothing."""
        client, server = self.pair()
        self.assertEqual(client.next_timer(), KEEP_ALIVE)
        client.handle_timer(now=KEEP_ALIVE)
        padding = client.data_to_send(now=KEEP_ALIVE)
        self.assertTrue(padding)
        self.assertEqual(client.data_to_send(now=KEEP_ALIVE), b"")
        server.receive_data(padding, now=KEEP_ALIVE)
        self.assertEqual(server.receiver.unread, 0)
        self.assertEqual(server.lost, "")

    def test_silence(self) -> None:
        """A far end that is silent for too long is lost."""
        client, _ = self.pair()
        client.handle_timer(now=SILENCE - 0.1)
        self.assertEqual(client.lost, "")
        client.handle_timer(now=SILENCE)
        self.assertIn("silent", client.lost)
        self.assertEqual(client.next_timer(), math.inf)
        self.assertEqual(client.data_to_send(now=SILENCE), b"")

    def test_carrier_full(self) -> None:
        """What the carrier does not take is not thought of again and again."""
        client, _ = self.pair()
        client.carrier_full = True
        self.assertEqual(client.next_timer(), SILENCE)
        client.carrier_full = False
        self.assertEqual(client.next_timer(), KEEP_ALIVE)

    def test_not_listening(self) -> None:
        """Who does not read for a while takes nobody for silent."""
        client, _ = self.pair()
        client.stop_listening()
        self.assertEqual(client.next_timer(), KEEP_ALIVE)
        client.handle_timer(now=10 * SILENCE)
        self.assertEqual(client.lost, "")
        client.listen(now=10 * SILENCE)
        client.handle_timer(now=11 * SILENCE - 0.1)
        self.assertEqual(client.lost, "")
        client.handle_timer(now=11 * SILENCE)
        self.assertIn("silent", client.lost)

    def test_cut(self) -> None:
        """The carrier's end before the stream's is a loss."""
        client, _ = self.pair()
        client.sender.write(b"x")
        client.receive_loss("cut")
        self.assertEqual(client.lost, "cut")

    def test_misuse(self) -> None:
        """Nothing is written behind the end."""
        client, _ = self.pair()
        client.sender.finish()
        self.assertRaises(LocalProtocolError, client.sender.write, b"x")

    def test_on_the_wire(self) -> None:
        """The frames are those of the documentation."""
        framing = LengthFraming()
        self.assertEqual(framing.data(b"abc"), b"\x00\x03abc")
        self.assertEqual(framing.padding(), b"\x00\x00")
        self.assertEqual(framing.end(), b"\xff\xff")

    def test_refused(self) -> None:
        """Frames that are too long, and data behind the end, are errors."""
        long = (LARGEST_FRAME + 1).to_bytes(2, "big")
        self.assertRaises(RemoteProtocolError, LengthFraming().receive_data, long)
        self.assertRaises(
            RemoteProtocolError, LengthFraming().receive_data, b"\xff\xff\x00\x01a"
        )


class WebSocketFramingTests(LengthFramingTests):
    """Binary messages of a WebSocket."""

    def setUp(self) -> None:
        require(not why_unavailable(), why_unavailable())

    def framings(self) -> tuple[Framing, Framing]:
        return WebSocketFraming(client=True), WebSocketFraming(client=False)

    @given(PIECES, st.integers(1, 5000), st.booleans())
    def test_any_pieces(self, pieces: list[bytes], size: int, upwards: bool) -> None:
        """However the carrier divides the bytes, the same stream comes out."""
        self.check_pieces(pieces, size, upwards)

    @given(st.binary(max_size=200))
    def test_nonsense(self, data: bytes) -> None:
        """Any bytes are survived, and what is written stays possible."""
        self.check_nonsense(data)

    def test_on_the_wire(self) -> None:
        """The frames are those of RFC 6455: binary, ping, empty, close."""
        framing = WebSocketFraming(client=False)
        self.assertEqual(framing.data(b"abc"), b"\x82\x03abc")
        self.assertEqual(framing.padding(), b"\x89\x00")
        self.assertEqual(framing.end(), b"\x82\x00")
        self.assertEqual(framing.farewell(), b"\x88\x02\x03\xe8")

    def test_masked(self) -> None:
        """A client masks its frames, as a server of any make demands."""
        frame = WebSocketFraming(client=True).data(b"abc")
        self.assertEqual(frame[:2], b"\x82\x83")
        self.assertEqual(len(frame), 9)

    def test_ping_is_answered(self) -> None:
        """A ping gets its pong."""
        client, server = self.framings()
        _, pong = server.receive_data(client.padding())
        self.assertEqual(pong, b"\x8a\x00")

    def test_newest_ping_is_answered(self) -> None:
        """Pings that come while nothing can be sent leave one answer, the newest's."""
        _, server = self.pair()
        for number in range(1000):
            # Two in each piece, masked with zeros.
            pings = b"".join(
                b"\x89\x84\0\0\0\0" + at.to_bytes(4, "big")
                for at in (2 * number, 2 * number + 1)
            )
            server.receive_data(pings, now=0.0)
        sent = server.data_to_send(now=0.0)
        self.assertEqual(sent, b"\x8a\x04" + (1999).to_bytes(4, "big"))

    def test_refused(self) -> None:
        """Text, and a close in the midst of a stream, are errors."""
        for frame in (b"\x81\x01a", b"\x88\x02\x03\xe8"):
            framing = WebSocketFraming(client=True)
            self.assertRaises(RemoteProtocolError, framing.receive_data, frame)

    def test_accept(self) -> None:
        """The key is answered as in the example of RFC 6455, 1.3."""
        headers = (
            (b"connection", b"keep-alive, Upgrade"),
            (b"upgrade", b"WebSocket"),
            (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
            (b"sec-websocket-version", b"13"),
        )
        self.assertEqual(accept_websocket(headers), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        for missing in range(4):
            left = headers[:missing] + headers[missing + 1 :]
            self.assertRaises(RemoteProtocolError, accept_websocket, left)
