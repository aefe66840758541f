"""The picture of the demonstration's camera: a street, seen by a coarse sensor.

Each cell of 8 by 8 pixels has one colour, which is the one case in which a JPEG file
(ITU-T T.81) needs no transform: the coefficient of a block is its mean, all others are
zero. So a picture takes a few milliseconds, without a library for images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from struct import pack

__all__ = ["CELL", "COLUMNS", "ROWS", "Colour", "draw", "encode_jpeg"]

CELL = 8
"""Pixels of a cell's side."""
COLUMNS, ROWS = 64, 48

Colour = tuple[int, int, int]
"""Y, Cb and Cr, 0 to 255 (ITU-T T.871)."""

_SIZES_AND_CATEGORIES = (0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0)
_END_OF_BLOCK = "0"


def _category_codes() -> list[str]:
    """The usual code of differences' lengths (T.81, table K.3), as bits."""
    codes, code, length = [], 0, 0
    for length, count in enumerate(_SIZES_AND_CATEGORIES, 1):
        for _ in range(count):
            codes.append(f"{code:0{length}b}")
            code += 1
        code <<= 1
    return codes


def _difference_bits() -> dict[int, str]:
    """The bits of a block whose mean differs by so much from the one before."""
    codes = _category_codes()
    bits = {0: codes[0] + _END_OF_BLOCK}
    for difference in range(1, 256):
        size = difference.bit_length()
        positive = f"{difference:0{size}b}"
        negative = f"{(1 << size) - 1 - difference:0{size}b}"
        bits[difference] = codes[size] + positive + _END_OF_BLOCK
        bits[-difference] = codes[size] + negative + _END_OF_BLOCK
    return bits


_DIFFERENCES = _difference_bits()
_SAME = _DIFFERENCES[0] * 3


def _segment(marker: int, content: bytes) -> bytes:
    return pack("!BBH", 0xFF, marker, len(content) + 2) + content


def _head(width: int, height: int) -> bytes:
    components = b"".join(bytes((number, 0x11, 0)) for number in (1, 2, 3))
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
            # The mean of a block is an eighth of its first coefficient.
            _segment(0xDB, b"\0" + bytes([8]) * 64),
            _segment(0xC0, pack("!BHHB", 8, height, width, 3) + components),
            _segment(0xC4, b"\x00" + bytes(_SIZES_AND_CATEGORIES) + bytes(range(12))),
            # Of the other coefficients there is but the end.
            _segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0"),
            _segment(0xDA, b"\x03\x01\0\x02\0\x03\0\0\x3f\0"),
        )
    )


def encode_jpeg(rows: Sequence[Sequence[Colour]]) -> bytes:
    """Return the JPEG file of a picture of cells."""
    bits: list[str] = []
    before: Colour = (128, 128, 128)
    for row in rows:
        for cell in row:
            if cell == before:
                bits.append(_SAME)
                continue
            for old, new in zip(before, cell, strict=True):
                bits.append(_DIFFERENCES[new - old])
            before = cell
    text = "".join(bits)
    # Ones fill the last byte (T.81, F.1.2.3).
    text += "1" * (-len(text) % 8)
    data = int("1" + text, 2).to_bytes(len(text) // 8 + 1, "big")[1:]
    head = _head(len(rows[0]) * CELL, len(rows) * CELL)
    return head + data.replace(b"\xff", b"\xff\0") + b"\xff\xd9"


# The scene

_FONT = {
    "0": ("###", "#.#", "#.#", "#.#", "###"),
    "1": (".#.", "##.", ".#.", ".#.", "###"),
    "2": ("###", "..#", "###", "#..", "###"),
    "3": ("###", "..#", "###", "..#", "###"),
    "4": ("#.#", "#.#", "###", "..#", "..#"),
    "5": ("###", "#..", "###", "..#", "###"),
    "6": ("###", "#..", "###", "#.#", "###"),
    "7": ("###", "..#", "..#", ".#.", ".#."),
    "8": ("###", "#.#", "###", "#.#", "###"),
    "9": ("###", "#.#", "###", "..#", "###"),
    ":": (".", "#", ".", "#", "."),
}
_WHITE: Colour = (235, 128, 128)
_BLACK: Colour = (20, 128, 128)
_SUN: Colour = (210, 40, 150)
_GRASS: Colour = (110, 100, 105)
_ROAD: Colour = (75, 128, 128)
_LINE: Colour = (200, 128, 128)
_CAR: Colour = (90, 110, 220)
_GLASS: Colour = (170, 150, 110)
_WHEEL: Colour = (15, 128, 128)

_HORIZON, _STREET, _STREET_END = 26, 32, 42
_CAR_SHAPE = (
    "...######...",
    "..#gg##gg#..",
    "############",
    "############",
    ".ww......ww.",
)
_CAR_COLOURS = {"#": _CAR, "g": _GLASS, "w": _WHEEL}


def draw(clock: str, seconds: float, number: int) -> list[list[Colour]]:
    """Draw the street at a moment.

    :param clock: what its clock shows, of digits and colons.
    :param seconds: since the camera was switched on; what moves depends on it.
    :param number: of the picture, shown in the corner.
    """
    rows = [[_sky(y)] * COLUMNS for y in range(_HORIZON)]
    rows += [[_GRASS] * COLUMNS for _ in range(ROWS - _HORIZON)]
    for y in range(_STREET, _STREET_END):
        rows[y] = [_ROAD] * COLUMNS
    middle = (_STREET + _STREET_END) // 2
    for x in range(COLUMNS):
        if x % 8 < 4:
            rows[middle][x] = _LINE
    _put_sun(rows, seconds)
    _put_car(rows, int(seconds * 12) % (COLUMNS + 24) - 12)
    _write(rows, clock, 2, 1, 2)
    _write(rows, str(number % 10_000_000), 1, ROWS - 8, 1)
    return rows


def _sky(y: int) -> Colour:
    return (140 + 3 * y, 160 - y, 110)


def _put_sun(rows: list[list[Colour]], seconds: float) -> None:
    angle = seconds / 10 * math.pi
    at_x, at_y = 32 + 22 * math.cos(angle), 20 - 6 * math.sin(angle)
    for y in range(_HORIZON):
        for x in range(COLUMNS):
            if (x - at_x) ** 2 + (y - at_y) ** 2 < 12:
                rows[y][x] = _SUN


def _put_car(rows: list[list[Colour]], left: int) -> None:
    for y, line in enumerate(_CAR_SHAPE, _STREET + 1):
        for x, mark in enumerate(line, left):
            if mark in _CAR_COLOURS and 0 <= x < COLUMNS:
                rows[y][x] = _CAR_COLOURS[mark]


def _write(rows: list[list[Colour]], text: str, left: int, top: int, size: int) -> None:
    lines = ["." + ".".join(_FONT[c][y] for c in text) + "." for y in range(5)]
    blank = "." * len(lines[0])
    for y, line in enumerate((blank, *lines, blank)):
        cells = [
            _WHITE if mark == "#" else _BLACK for mark in line for _ in range(size)
        ]
        for row in rows[top + y * size : top + (y + 1) * size]:
            row[left : left + len(cells)] = cells
