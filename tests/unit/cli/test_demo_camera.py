"""The demonstration's camera: pictures that decoders accept, and what moves in them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.demo_camera import PICTURES_PER_SECOND, Camera, camera_site
from dwcloud.cli.demo_picture import (
    CELL,
    COLUMNS,
    ROWS,
    Colour,
    draw,
    encode_jpeg,
)

_CATEGORIES = [
    ("00", 0),
    ("010", 1),
    ("011", 2),
    ("100", 3),
    ("101", 4),
    ("110", 5),
    ("1110", 6),
    ("11110", 7),
    ("111110", 8),
    ("1111110", 9),
]
"""ITU-T T.81, table K.3."""


def decode(file: bytes) -> list[list[Colour]]:
    """Read such a file again, by the tables of the standard."""
    start = file.index(b"\xff\xc0")
    height = int.from_bytes(file[start + 5 : start + 7], "big") // CELL
    width = int.from_bytes(file[start + 7 : start + 9], "big") // CELL
    scan = file.index(b"\xff\xda")
    length = int.from_bytes(file[scan + 2 : scan + 4], "big")
    data = file[scan + 2 + length : -2].replace(b"\xff\0", b"\xff")
    bits = "".join(f"{byte:08b}" for byte in data)
    at, values, mean = 0, [], [128, 128, 128]
    for number in range(width * height * 3):
        code, size = next(c for c in _CATEGORIES if bits.startswith(c[0], at))
        at += len(code)
        if size:
            raw = int(bits[at : at + size], 2)
            at += size
            mean[number % 3] += raw if raw >> (size - 1) else raw - (1 << size) + 1
        assert bits[at] == "0", "no end of block"
        at += 1
        values.append(mean[number % 3])
    cells = list(zip(values[::3], values[1::3], values[2::3], strict=True))
    return [cells[y * width : (y + 1) * width] for y in range(height)]


class PictureTests(SynchronousTestCase):
    """JPEG files."""

    @given(
        st.lists(
            st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=3, max_size=3),
            min_size=1,
            max_size=4,
        )
    )
    def test_any_picture(self, rows: list[list[Colour]]) -> None:
        """What is in a file is the picture that was put there."""
        self.assertEqual(decode(encode_jpeg(rows)), rows)

    def test_size(self) -> None:
        """The file begins and ends as one, and tells its size in pixels."""
        file = encode_jpeg(draw("00:00:00", 0, 0))
        self.assertTrue(
            file.startswith(b"\xff\xd8\xff\xe0") and file.endswith(b"\xff\xd9")
        )
        self.assertEqual([len(row) for row in decode(file)], [COLUMNS] * ROWS)

    def test_moves(self) -> None:
        """From one moment to the next something moves, and the clock goes on."""
        self.assertNotEqual(draw("12:00:00", 1.0, 1), draw("12:00:00", 1.2, 1))
        self.assertNotEqual(draw("12:00:00", 1.0, 1), draw("12:00:01", 1.0, 1))
        self.assertNotEqual(draw("12:00:00", 1.0, 1), draw("12:00:00", 1.0, 2))


class CameraTests(SynchronousTestCase):
    """Its web server."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.camera = Camera(self.clock, lambda: "12:34:56")
        self.site = camera_site(self.camera)

    def ask(self, path: bytes) -> StringTransport:
        """Send a request; return what gets the answer."""
        transport = StringTransport()
        protocol = self.site.buildProtocol(None)
        protocol.makeConnection(transport)
        protocol.dataReceived(b"GET %b HTTP/1.1\r\nHost: camera\r\n\r\n" % path)
        self.addCleanup(self.lose, protocol, transport)
        transport.protocol = protocol  # type: ignore[attr-defined]
        return transport

    def lose(self, protocol: object, transport: StringTransport) -> None:
        """End a connection."""
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

        if transport.connected:
            transport.connected = False
            protocol.connectionLost(Failure(ConnectionDone()))  # type: ignore[attr-defined]

    def test_page(self) -> None:
        """The page shows the video; nothing is taken while nobody looks."""
        self.assertIn(b"live.mjpeg", self.ask(b"/").value())
        self.assertEqual(self.camera.taken, 0)
        self.assertIn(b"image/jpeg", self.ask(b"/still.jpg").value())
        self.assertIn(b'"pictures_taken": 1', self.ask(b"/status.json").value())
        self.assertIn(b" 404 ", self.ask(b"/other").value())

    def test_video(self) -> None:
        """Who looks gets picture after picture until leaving."""
        transport = self.ask(b"/live.mjpeg")
        self.clock.pump([1 / PICTURES_PER_SECOND] * 20)
        self.assertEqual(self.camera.viewers, 1)
        self.assertEqual(transport.value().count(b"Content-Type: image/jpeg"), 21)
        self.assertEqual(self.camera.sent, 21)
        self.lose(transport.protocol, transport)  # type: ignore[attr-defined]
        self.assertEqual(self.camera.viewers, 0)
        self.clock.advance(10)
        self.assertEqual(self.camera.taken, 21)

    def test_slow_viewer(self) -> None:
        """Who cannot take more misses pictures; they are not kept."""
        transport = self.ask(b"/live.mjpeg")
        transport.producer.pauseProducing()  # type: ignore[union-attr]
        self.clock.pump([1 / PICTURES_PER_SECOND] * 20)
        self.assertEqual(self.camera.sent, 1)
        transport.producer.resumeProducing()  # type: ignore[union-attr]
        self.clock.pump([1 / PICTURES_PER_SECOND] * 2)
        self.assertEqual(self.camera.sent, 3)
