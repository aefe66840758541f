"""KEEP_ALIVE and OPEN_TUNNEL."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.relaying.lines import (
    KEEP_ALIVE,
    MAX_LINE,
    KeepAlive,
    LineDecoder,
    OpenTunnel,
    encode_line,
    take_answers,
)

OPEN = OpenTunnel("a client", Address("192.0.2.1", 4000))


class LineTests(SynchronousTestCase):
    def test_wire_form(self) -> None:
        """The lines look as the protocol's description shows them."""
        self.assertEqual(encode_line(KeepAlive()), b"KEEP_ALIVE\r\n")
        self.assertEqual(
            encode_line(OPEN), b"OPEN_TUNNEL a%20client 192.0.2.1:4000\r\n"
        )
        self.assertEqual(
            encode_line(OpenTunnel("", Address("::1", 1))), b"OPEN_TUNNEL - [::1]:1\r\n"
        )

    def test_split_at_every_byte(self) -> None:
        """Wherever the stream is cut, lines and trailing bytes are the same."""
        stream = encode_line(KeepAlive()) * 2 + encode_line(OPEN) + b"raw\nbytes"
        for cut in range(len(stream)):
            decoder = LineDecoder()
            lines = decoder.receive_data(stream[:cut])
            lines += decoder.receive_data(stream[cut:])
            self.assertEqual(lines, [KeepAlive(), KeepAlive(), OPEN])
            self.assertEqual(decoder.trailing_data, b"raw\nbytes")

    def test_long_line(self) -> None:
        """A line without an end does not fill the memory."""
        decoder = LineDecoder()
        decoder.receive_data(b"x" * (MAX_LINE - 1))
        self.assertRaises(RemoteProtocolError, decoder.receive_data, b"x")

    def test_unknown_lines(self) -> None:
        """Other words, or wrong arguments, are the relay's mistake."""
        for line in [
            b"",
            b"HELLO",
            b"OPEN_TUNNEL",
            b"OPEN_TUNNEL - x",
            b"OPEN_TUNNEL a",
        ]:
            decoder = LineDecoder()
            self.assertRaises(RemoteProtocolError, decoder.receive_data, line + b"\n")

    @given(
        st.text(max_size=64, alphabet=st.characters(exclude_categories=["Cs"])),
        st.ip_addresses(),
        st.integers(0, 65535),
    )
    def test_round_trip(self, name: str, host: object, port: int) -> None:
        """Every name and address comes back, on a line short enough."""
        line = OpenTunnel(name, Address(str(host), port))
        encoded = encode_line(line)
        self.assertLessEqual(len(encoded), MAX_LINE)
        self.assertEqual(LineDecoder().receive_data(encoded), [line])

    @given(st.text(alphabet=st.characters()))
    def test_any_name(self, name: str) -> None:
        """A name that is too long or no proper text is cut, not refused."""
        encoded = encode_line(OpenTunnel(name, Address("::", 0)))
        self.assertLessEqual(len(encoded), MAX_LINE)
        LineDecoder().receive_data(encoded)

    @given(st.lists(st.binary()))
    def test_any_bytes(self, pieces: list[bytes]) -> None:
        """Nonsense is an error, never anything else."""
        decoder = LineDecoder()
        try:
            for piece in pieces:
                decoder.receive_data(piece)
        except RemoteProtocolError:
            return


class AnswerTests(SynchronousTestCase):
    """What a server says before it has heard of a client."""

    @given(st.integers(0, 5), st.binary(), st.lists(st.integers(1, 20)))
    def test_any_pieces(self, asked: int, client: bytes, sizes: list[int]) -> None:
        """All answers are taken, in any pieces, and not a byte of what follows."""
        owed = asked * len(KEEP_ALIVE)
        stream, came = KEEP_ALIVE * asked + client, b""
        for size in [*sizes, len(stream)]:
            piece, stream = stream[:size], stream[size:]
            owed, rest = take_answers(owed, piece)
            came += rest
        self.assertEqual((owed, came), (0, client))

    def test_still_owed(self) -> None:
        """An answer that has come in part is owed in part."""
        self.assertEqual(take_answers(24, KEEP_ALIVE[:5]), (19, b""))
        self.assertEqual(take_answers(19, KEEP_ALIVE[5:]), (12, b""))

    @given(st.integers(1, 40), st.binary(min_size=1))
    def test_any_bytes(self, owed: int, data: bytes) -> None:
        """Anything else is an error, and nothing is taken for an answer."""
        begun = -owed % len(KEEP_ALIVE)
        expected = (KEEP_ALIVE * 5)[begun : begun + min(owed, len(data))]
        if data.startswith(expected):
            self.assertEqual(take_answers(owed, data)[1], data[len(expected) :])
        else:
            self.assertRaises(RemoteProtocolError, take_answers, owed, data)
