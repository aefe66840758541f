"""What a server tells, while somebody watches, of the streams that it carries.

The mediator sees introductions, but neither which path carries a stream nor how much
goes over it. A server tells that only while it is asked to (``watch``), to the mediator
alone, and never what is in the streams.
"""

from __future__ import annotations

import uuid
from struct import Struct

import attrs

from dwcloud.protocol.errors import RemoteProtocolError

__all__ = [
    "MAX_TOLD",
    "PATHS",
    "REPORT_INTERVAL",
    "WATCH_LIFETIME",
    "Activity",
    "RunningStream",
]

WATCH_LIFETIME = 60.0
"""Seconds for which one ``watch`` makes a server tell."""

REPORT_INTERVAL = 2.0
"""Seconds between two reports, at least; nothing is told while nothing changes."""

MAX_TOLD = 32
"""Streams that a report names; of more, those that began last."""

PATHS = ("lan", "tcp", "udp", "relay")
"""Kinds of path; on the wire their place in this list, from 1."""

_MAX_TEXT = 128
_NO_SESSION = uuid.UUID(int=0)
_COUNT = Struct("!H")
_STREAM = Struct("!IB16sIQQBB")


@attrs.frozen(kw_only=True)
class RunningStream:
    """A stream that is open.

    :ivar number: tells it from the others of its server, past and present.
    :ivar path: kind of path, of :data:`PATHS`.
    :ivar session: what logs call the connect session; None on the LAN.
    :ivar age: whole seconds since it was opened.
    :ivar to_client: bytes sent to the client so far.
    :ivar to_server: bytes received from it.
    :ivar account: name of the account that the client's grant is for; may be empty.
    :ivar client: what the client calls itself; proven by nothing.
    """

    number: int
    path: str
    session: uuid.UUID | None
    age: int
    to_client: int
    to_server: int
    account: str
    client: str

    def encode(self) -> bytes:
        """Return it for the wire."""
        account, client = _short(self.account), _short(self.client)
        return (
            _STREAM.pack(
                self.number & 0xFFFFFFFF,
                PATHS.index(self.path) + 1,
                (self.session or _NO_SESSION).bytes,
                min(self.age, 0xFFFFFFFF),
                self.to_client,
                self.to_server,
                len(account),
                len(client),
            )
            + account
            + client
        )


@attrs.frozen
class Activity:
    """The streams of a server at one moment.

    :ivar count: how many there are.
    :ivar streams: those that are told of.
    """

    count: int
    streams: tuple[RunningStream, ...]

    def encode(self) -> bytes:
        """Return it for the wire."""
        told = self.streams[-MAX_TOLD:]
        count = min(max(self.count, len(told)), 0xFFFF)
        return _COUNT.pack(count) + b"".join(s.encode() for s in told)

    @classmethod
    def decode(cls, data: bytes) -> Activity:
        """Read it.

        :raises RemoteProtocolError: code 400, if it is malformed.
        """
        if len(data) < _COUNT.size:
            raise RemoteProtocolError("an activity without a count", 400)
        (count,) = _COUNT.unpack_from(data)
        streams = []
        at = _COUNT.size
        while at < len(data):
            stream, at = _read(data, at)
            streams.append(stream)
        if len(streams) > min(count, MAX_TOLD):
            raise RemoteProtocolError(f"{len(streams)} streams of {count}", 400)
        return cls(count, tuple(streams))


def _read(data: bytes, at: int) -> tuple[RunningStream, int]:
    """Read the stream that begins at ``at``; return where the next one does."""
    end = at + _STREAM.size
    if end > len(data):
        raise RemoteProtocolError("a stream is cut off", 400)
    number, path, session, age, to_client, to_server, one, two = _STREAM.unpack_from(
        data, at
    )
    if not 1 <= path <= len(PATHS):
        raise RemoteProtocolError(f"there is no kind of path {path}", 400)
    stream = RunningStream(
        number=number,
        path=PATHS[path - 1],
        session=uuid.UUID(bytes=session) if any(session) else None,
        age=age,
        to_client=to_client,
        to_server=to_server,
        account=_text(data[end : end + one], one),
        client=_text(data[end + one : end + one + two], two),
    )
    return stream, end + one + two


def _short(text: str) -> bytes:
    """Encode a text that may be cut, but not within a character."""
    printable = "".join(c if c.isprintable() else "?" for c in text)
    cut = printable.encode("utf-8", "replace")[:_MAX_TEXT]
    return cut.decode("utf-8", "ignore").encode("utf-8")


def _text(data: bytes, length: int) -> str:
    if len(data) != length or length > _MAX_TEXT:
        raise RemoteProtocolError("a name is cut off or too long", 400)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("a name is not UTF-8", 400) from error
    if not text.isprintable():
        raise RemoteProtocolError("a name has unprintable characters", 400)
    return text
