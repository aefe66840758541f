"""What is said on a server's idle connection, line by line.

The relay says ``KEEP_ALIVE`` now and then, and ``OPEN_TUNNEL`` in the end; the server
answers each ``KEEP_ALIVE`` by the same.
"""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

import attrs

from dwcloud.protocol.addresses import Address, parse_address
from dwcloud.protocol.errors import RemoteProtocolError

__all__ = [
    "KEEP_ALIVE",
    "MAX_LINE",
    "KeepAlive",
    "Line",
    "LineDecoder",
    "OpenTunnel",
    "encode_line",
    "take_answers",
]

MAX_LINE = 1024
"""Bytes of a line, its end included."""

KEEP_ALIVE = b"KEEP_ALIVE\r\n"
"""The line KEEP_ALIVE, and the answer to it."""

_MAX_NAME = 64  # characters; each takes up to 12 bytes when escaped


@attrs.frozen
class KeepAlive:
    """The way from the relay down to the server works."""


@attrs.frozen
class OpenTunnel:
    """A client is joined; what follows are its bytes.

    :ivar client_name: how the client calls itself; empty if it does not.
    :ivar client_address: from where it came to the relay.
    """

    client_name: str
    client_address: Address


Line = KeepAlive | OpenTunnel


def encode_line(line: Line) -> bytes:
    """Write a line with its end."""
    if isinstance(line, KeepAlive):
        return KEEP_ALIVE
    # "-" stands for no name, so that the number of words is fixed; a client that
    # really is called "-" gets that escaped.
    name = quote(line.client_name[:_MAX_NAME], safe="", errors="replace")
    if name == "-":
        name = "%2D"
    return f"OPEN_TUNNEL {name or '-'} {line.client_address}\r\n".encode("ascii")


def _decode_line(line: bytes) -> Line:
    match line.split(b" "):
        case [b"KEEP_ALIVE"]:
            return KeepAlive()
        case [b"OPEN_TUNNEL", name, address]:
            try:
                return OpenTunnel(
                    ""
                    if name == b"-"
                    else unquote_to_bytes(name).decode("utf-8", "replace"),
                    parse_address(address.decode("ascii")),
                )
            except ValueError as e:
                raise RemoteProtocolError(f"the relay's OPEN_TUNNEL: {e}") from e
    raise RemoteProtocolError(f"the relay said {line[:80]!r}, which is not known here")


def take_answers(owed: int, data: bytes) -> tuple[int, bytes]:
    """Take a server's answers to KEEP_ALIVE off the front of what it says.

    A server answers what comes before OPEN_TUNNEL, so that the relay knows how many
    bytes of answers are still on their way when it sends that.

    :param owed: bytes of answers that are to come.
    :return: how many are still to come, and what is behind them.
    :raises RemoteProtocolError: if it is something else.
    """
    length = min(owed, len(data))
    begun = -owed % len(KEEP_ALIVE)
    expected = KEEP_ALIVE * (length // len(KEEP_ALIVE) + 2)
    if data[:length] != expected[begun : begun + length]:
        raise RemoteProtocolError("a server said something before a client was there")
    return owed - length, data[length:]


class LineDecoder:
    """Takes the lines off the front of a connection, up to OPEN_TUNNEL."""

    def __init__(self) -> None:
        self._buffer = b""
        self._opened = False

    def receive_data(self, data: bytes) -> list[Line]:
        """Return the lines that are whole now.

        :raises RemoteProtocolError: for a line that is too long or not known; the
            connection is of no use then.
        """
        self._buffer += data
        lines: list[Line] = []
        while not self._opened:
            line, end, rest = self._buffer.partition(b"\n")
            if len(line) >= MAX_LINE:
                raise RemoteProtocolError(
                    f"the relay sent a line of more than {MAX_LINE} bytes"
                )
            if not end:
                break
            self._buffer = rest
            lines.append(_decode_line(line.removesuffix(b"\r")))
            self._opened = isinstance(lines[-1], OpenTunnel)
        return lines

    @property
    def trailing_data(self) -> bytes:
        """What came after OPEN_TUNNEL: the client's bytes."""
        return self._buffer if self._opened else b""
