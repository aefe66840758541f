"""Frames between client and server."""

from __future__ import annotations

import json
import tracemalloc
import uuid

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.grants.access import MAX_GRANT
from dwcloud.protocol.opening.messages import (
    HEADER_BYTES,
    MAX_CONTROL_BODY,
    MAX_DATA_BODY,
    NONCE_BYTES,
    Data,
    Decoder,
    End,
    KeepAlive,
    Message,
    Open,
    Proof,
    Ready,
    RefusalCode,
    Refused,
    Start,
    Started,
    data_header,
    encode,
)

WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=255)
REASONS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=300)
CONTROL = st.one_of(
    st.builds(
        Open,
        st.none() | st.uuids(),
        WORDS,
        st.just(b"") | st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES),
        st.binary(max_size=MAX_GRANT),
        st.binary(max_size=64),
    ),
    st.builds(
        Ready,
        st.none()
        | st.builds(
            Proof,
            st.tuples(st.binary(max_size=600), st.binary(max_size=600)),
            st.binary(max_size=100),
        ),
    ),
    st.builds(Start, WORDS),
    st.builds(Started, WORDS),
    st.builds(Refused, st.sampled_from(RefusalCode), REASONS),
    st.just(End()),
    st.just(KeepAlive()),
)
MESSAGES = CONTROL | st.builds(Data, st.binary(min_size=1, max_size=300))
TYPES = st.integers(min_value=0, max_value=255)


def frame(kind: int, body: bytes, length: int | None = None) -> bytes:
    """A frame with any contents."""
    length = len(body) if length is None else length
    return bytes([kind]) + length.to_bytes(3, "big") + body


def merged(messages: list[Message]) -> list[Message]:
    """The messages with neighbouring pieces of data joined."""
    result: list[Message] = []
    for message in messages:
        last = result[-1] if result else None
        if isinstance(message, Data) and isinstance(last, Data):
            result[-1] = Data(last.data + message.data)
        else:
            result.append(message)
    return result


class EncodingTests(SynchronousTestCase):
    """What goes over the wire."""

    def test_on_the_wire(self) -> None:
        """The form that docs/protocol/opening.rst describes."""
        session = uuid.UUID(int=1)
        for message, kind, body in (
            (
                Open(session, "me"),
                1,
                {"version": 1, "session": str(session), "client": "me"},
            ),
            (Open(None), 1, {"version": 1, "session": None, "client": ""}),
            (
                Open(None, "", b"", b"\xff\xfe\xfd", b"\0"),
                1,
                {
                    "version": 1,
                    "session": None,
                    "client": "",
                    "grant": "//79",
                    "possession": "AA==",
                },
            ),
            (Ready(), 2, {"version": 1}),
            (Start("web"), 3, {"service": "web"}),
            (Started("web"), 4, {"service": "web"}),
            (
                Refused(RefusalCode.BUSY, "later"),
                5,
                {"code": "busy", "reason": "later"},
            ),
        ):
            data = encode(message)
            self.assertEqual(data[:4], bytes([kind, 0]) + len(data[4:]).to_bytes(2))
            self.assertEqual(json.loads(data[4:]), body)
        self.assertEqual(encode(Data(b"abc")), b"\x06\x00\x00\x03abc")
        self.assertEqual(encode(End()), b"\x07\x00\x00\x00")
        self.assertEqual(encode(KeepAlive()), b"\x08\x00\x00\x00")

    @given(MESSAGES)
    def test_round_trip(self, message: Message) -> None:
        """What one side sends the other reads."""
        self.assertEqual(Decoder().receive_data(encode(message)), [message])

    def test_data_header_limit(self) -> None:
        """Data that no frame can hold is our own mistake, found before it is sent."""
        self.assertEqual(data_header(MAX_DATA_BODY), b"\x06\xff\xff\xff")
        self.assertRaises(LocalProtocolError, data_header, MAX_DATA_BODY + 1)

    @given(st.text())
    @example("\N{GRINNING FACE}" * 5000)
    @example("\ud800" * 5000)
    @example('"' * 5000)
    def test_long_texts_are_cut(self, text: str) -> None:
        """A refusal always goes out, whatever the reason; so does a client's name."""
        longest = Open(
            uuid.uuid4(), text, bytes(NONCE_BYTES), bytes(MAX_GRANT), bytes(64)
        )
        for message in (Refused(RefusalCode.BUSY, text), Open(None, text), longest):
            data = encode(message)
            self.assertLessEqual(len(data), HEADER_BYTES + MAX_CONTROL_BODY)
            (decoded,) = Decoder().receive_data(data)
            self.assertIs(type(decoded), type(message))

    def test_long_service_names_are_not_sent(self) -> None:
        """A name that the far end would not read is refused here, in clear words."""
        for message in (Start("x" * 256), Started("x" * 256)):
            error = self.assertRaises(LocalProtocolError, encode, message)
            self.assertIn("255", str(error))


class DecodingTests(SynchronousTestCase):
    """What may come in."""

    def test_split_at_every_byte(self) -> None:
        """Where the stream is cut changes nothing."""
        messages: list[Message] = [
            Open(uuid.UUID(int=1), "me"),
            Ready(),
            Start("web"),
            Started("web"),
            Data(b"some data"),
            KeepAlive(),
            Refused(RefusalCode.UNKNOWN_SERVICE, "no"),
            End(),
        ]
        stream = b"".join(map(encode, messages))
        for at in range(len(stream) + 1):
            decoder = Decoder()
            decoded = decoder.receive_data(stream[:at])
            decoded += decoder.receive_data(stream[at:])
            self.assertEqual(merged(decoded), messages, f"cut at {at}")

    @given(st.lists(MESSAGES, max_size=8), st.lists(st.integers(1, 50), min_size=1))
    def test_split_anywhere(self, messages: list[Message], sizes: list[int]) -> None:
        """Any sequence in pieces of any sizes is the same sequence."""
        stream = b"".join(map(encode, messages))
        decoder, decoded, at, turn = Decoder(), [], 0, 0
        while at < len(stream):
            size = sizes[turn % len(sizes)]
            decoded += decoder.receive_data(stream[at : at + size])
            at, turn = at + size, turn + 1
        self.assertEqual(merged(decoded), merged(messages))

    def test_data_is_not_collected(self) -> None:
        """Data is passed on as it comes; a frame need not be complete."""
        decoder = Decoder()
        self.assertEqual(decoder.receive_data(data_header(MAX_DATA_BODY)), [])
        self.assertEqual(decoder.receive_data(b"a"), [Data(b"a")])

    def test_empty_data(self) -> None:
        """A frame without data says nothing."""
        self.assertEqual(Decoder().receive_data(data_header(0) * 3), [])

    @given(st.lists(st.binary(max_size=200), max_size=20))
    def test_any_bytes_survive(self, pieces: list[bytes]) -> None:
        """Garbage gives messages or the error of the protocol."""
        decoder = Decoder()
        try:
            for piece in pieces:
                decoder.receive_data(piece)
        except RemoteProtocolError:
            return

    @given(TYPES, st.binary(max_size=200))
    def test_any_body_survives(self, kind: int, body: bytes) -> None:
        """A whole frame of any type with any body, too."""
        try:
            messages = Decoder().receive_data(frame(kind, body))
        except RemoteProtocolError:
            return
        self.assertLessEqual(len(messages), 1)

    JSON_VALUES = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    )

    @given(
        st.integers(min_value=1, max_value=5),
        st.dictionaries(
            st.sampled_from(["version", "session", "client", "service", "code"])
            | st.just("reason"),
            JSON_VALUES | st.just(1),
        ),
    )
    def test_any_members_survive(self, kind: int, body: dict[str, object]) -> None:
        """A JSON object with any members is a message or an error."""
        try:
            (message,) = Decoder().receive_data(frame(kind, json.dumps(body).encode()))
        except RemoteProtocolError:
            return
        encode(message)

    def test_memory_is_bounded(self) -> None:
        """A far end that announces much and never ends makes nothing grow."""
        for kind in range(256):
            if kind != 6:
                start = frame(kind, b"", 0xFFFFFF)
                self.assertRaises(RemoteProtocolError, Decoder().receive_data, start)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            decoder = Decoder()
            decoder.receive_data(data_header(MAX_DATA_BODY))
            piece = bytes(1 << 16)
            for _ in range(MAX_DATA_BODY // len(piece)):
                decoder.receive_data(piece)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(after - before, 1 << 18)

    def test_control_frame_limit(self) -> None:
        """The longest control frame is read, a longer one refused by its header."""
        body = json.dumps({"service": "web"}).encode()
        self.assertEqual(
            Decoder().receive_data(frame(3, body.ljust(MAX_CONTROL_BODY))),
            [Start("web")],
        )
        too_long = frame(3, b"", MAX_CONTROL_BODY + 1)
        self.assertRaises(RemoteProtocolError, Decoder().receive_data, too_long)

    def test_refused(self) -> None:
        """Each member is checked."""
        for kind, body in (
            (0, {}),
            (9, {}),
            (1, {"version": 2, "session": None, "client": ""}),
            (1, {"session": None, "client": ""}),
            (1, {"version": 1, "session": "x", "client": ""}),
            (1, {"version": 1, "session": None}),
            (1, {"version": 1, "session": None, "client": "x" * 256}),
            (3, {}),
            (3, {"service": None}),
            (3, {"service": "x" * 256}),
            (4, {"service": 1}),
            (5, {"code": "busy"}),
            (5, {"reason": "x"}),
            (2, []),
        ):
            data = frame(kind, json.dumps(body).encode())
            self.assertRaises(RemoteProtocolError, Decoder().receive_data, data)

    def test_unknown_refusal(self) -> None:
        """The reason of a newer server arrives though its code means nothing here."""
        body = json.dumps({"code": "moon_phase", "reason": "wait"}).encode()
        self.assertEqual(
            Decoder().receive_data(frame(5, body)),
            [Refused(RefusalCode.BAD_REQUEST, "wait")],
        )

    def test_deep_nesting(self) -> None:
        """A body full of brackets is refused without harm."""
        data = frame(3, b"[" * MAX_CONTROL_BODY)
        self.assertRaises(RemoteProtocolError, Decoder().receive_data, data)

    def test_texts_cannot_steer_a_terminal(self) -> None:
        """Control characters and lone surrogates of the far end come to nobody."""
        hostile = "a\x1b[2J\r\n\ud800\u202eb"
        for kind, body, name in (
            (1, {"version": 1, "session": None, "client": hostile}, "client"),
            (3, {"service": hostile}, "service"),
            (5, {"code": "busy", "reason": hostile}, "reason"),
        ):
            data = frame(kind, json.dumps(body).encode())
            (message,) = Decoder().receive_data(data)
            text = getattr(message, name)
            self.assertTrue(text.isprintable(), repr(text))
            self.assertEqual((text[0], text[-1]), ("a", "b"))
            text.encode("utf-8")
