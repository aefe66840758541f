"""Frames on a path between client and server, inside its TLS.

A frame is one byte of type and three bytes of length, then the body. ``DATA`` carries
the application's bytes; ``END`` is the end of one direction, which neither TLS nor UDT
can express; the others carry a JSON object of at most :data:`MAX_CONTROL_BODY` bytes.
See docs/protocol/opening.rst.
"""

from __future__ import annotations

import base64
import enum
import json
import uuid
from typing import Any

import attrs

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "HEADER_BYTES",
    "MAX_CONTROL_BODY",
    "MAX_DATA_BODY",
    "NONCE_BYTES",
    "Data",
    "Decoder",
    "End",
    "KeepAlive",
    "Message",
    "Open",
    "Proof",
    "Ready",
    "RefusalCode",
    "Refused",
    "Start",
    "Started",
    "data_header",
    "encode",
    "signed_text",
]

VERSION = 1
HEADER_BYTES = 4
MAX_CONTROL_BODY = 4096
MAX_DATA_BODY = 0xFFFFFF
NONCE_BYTES = 32
_MAX_TEXT = 255
_MAX_REASON = 1000
_MAX_ESCAPED_REASON = 300


class FrameType(enum.IntEnum):
    """The first byte of a frame."""

    OPEN = 1
    READY = 2
    START = 3
    STARTED = 4
    REFUSED = 5
    DATA = 6
    END = 7
    KEEP_ALIVE = 8


class RefusalCode(enum.StrEnum):
    """Why a server does not open a stream."""

    UNKNOWN_SESSION = "unknown_session"
    UNKNOWN_SERVICE = "unknown_service"
    SERVICE_UNREACHABLE = "service_unreachable"
    BUSY = "busy"
    BAD_REQUEST = "bad_request"
    ACCESS_DENIED = "access_denied"


@attrs.frozen
class Open:
    """Client to server: the first message on a path.

    :ivar session: the connect session id that the mediator gave to both; None on a
        LAN path, which no mediator introduced.
    :ivar client: a name of the client for the server's log, possibly empty.
    :ivar nonce: :data:`NONCE_BYTES` random bytes on a path without TLS, which the
        server has to sign; empty inside TLS.
    :ivar grant: what says that the client may connect (docs/protocol/grants), empty
        where the server needs none.
    :ivar possession: the client's proof that the grant is its own.
    """

    session: uuid.UUID | None
    client: str = ""
    nonce: bytes = b""
    grant: bytes = attrs.field(default=b"", repr=False)
    possession: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen
class Proof:
    """A server's proof of its identity on a path without TLS.

    :ivar certificates: the server's and its system's, DER.
    :ivar signature: over :func:`signed_text`.
    """

    certificates: tuple[bytes, bytes]
    signature: bytes


@attrs.frozen
class Ready:
    """Server to client: the session is known, this path can be used.

    :ivar proof: who the server is, on a path without TLS.
    """

    proof: Proof | None = None


@attrs.frozen
class Start:
    """Client to server: this path was selected; connect it to a service.

    :ivar service: the name of a published service; empty for the only one.
    """

    service: str


@attrs.frozen
class Started:
    """Server to client: connected; data may flow.

    :ivar service: the name of the service.
    """

    service: str


@attrs.frozen
class Refused:
    """Server to client: no; the path ends here.

    :ivar reason: a sentence for the person in front of the client.
    """

    code: RefusalCode
    reason: str


@attrs.frozen
class Data:
    """Bytes of the application; a frame may arrive as several of these."""

    data: bytes


@attrs.frozen
class End:
    """The sender will send no more data; the other direction goes on."""


@attrs.frozen
class KeepAlive:
    """Nothing, said so that boxes between the ends do not forget the connection."""


Message = Open | Ready | Start | Started | Refused | Data | End | KeepAlive


def data_header(length: int) -> bytes:
    """The frame header in front of ``length`` bytes of data.

    :raises LocalProtocolError: above :data:`MAX_DATA_BODY`.
    """
    if length > MAX_DATA_BODY:
        raise LocalProtocolError(f"{length} bytes do not fit into one frame")
    return (FrameType.DATA << 24 | length).to_bytes(4, "big")


def encode(message: Message) -> bytes:
    """Encode one message as a frame; a long reason or client's name is cut.

    :raises LocalProtocolError: if a service's name is longer than the far end reads.
    """
    body: dict[str, Any]
    match message:
        case Data(data):
            return data_header(len(data)) + data
        case End():
            return _frame(FrameType.END)
        case KeepAlive():
            return _frame(FrameType.KEEP_ALIVE)
        case Open(session, client, nonce, grant, possession):
            body = {
                "version": VERSION,
                "session": None if session is None else str(session),
                "client": client[:_MAX_TEXT],
            }
            if nonce:
                body["nonce"] = nonce.hex()
            if grant:
                body["grant"] = _in_text(grant)
            if possession:
                body["possession"] = _in_text(possession)
            return _frame(FrameType.OPEN, body)
        case Ready(proof):
            body = {"version": VERSION}
            if proof is not None:
                parts = (*proof.certificates, proof.signature)
                body["proof"] = [_in_text(part) for part in parts]
            return _frame(FrameType.READY, body)
        case Start(service):
            return _frame(FrameType.START, {"service": _name(service)})
        case Started(service):
            return _frame(FrameType.STARTED, {"service": _name(service)})
        case Refused(code, reason):
            body = {"code": code.value, "reason": _cut(reason)}
            return _frame(FrameType.REFUSED, body)


def signed_text(opening: Open) -> bytes:
    """What the server signs to prove itself on a path without TLS.

    The nonce makes it good for this path only, the session for this connection.
    """
    session = b"" if opening.session is None else opening.session.bytes
    return b"dwcloud plain stream 1\0" + opening.nonce + session


def _in_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _name(service: str) -> str:
    if len(service) > _MAX_TEXT:
        raise LocalProtocolError(
            f"the name of a service has at most {_MAX_TEXT} characters"
        )
    return service


def _cut(reason: str) -> str:
    # What JSON has to escape takes up to 12 bytes for a character.
    plain = reason.isascii() and reason.isprintable()
    return reason[: _MAX_REASON if plain else _MAX_ESCAPED_REASON]


def _frame(kind: FrameType, body: dict[str, Any] | None = None) -> bytes:
    data = b"" if body is None else json.dumps(body).encode("ascii")
    if len(data) > MAX_CONTROL_BODY:
        raise LocalProtocolError(f"a body of {len(data)} bytes is too long")
    return (kind << 24 | len(data)).to_bytes(4, "big") + data


class Decoder:
    """Takes a byte stream apart into messages; keeps at most one control body."""

    def __init__(self) -> None:
        self._pending = b""
        self._data_left = 0

    def receive_data(self, data: bytes) -> list[Message]:
        """Return the messages that ``data`` completes.

        :raises RemoteProtocolError: if the far end sent something else than frames;
            nothing sensible can follow.
        """
        messages: list[Message] = []
        if self._pending:
            data = self._pending + data
            self._pending = b""
        at, end = 0, len(data)
        while at < end:
            if self._data_left:
                piece = data[at : at + self._data_left]
                self._data_left -= len(piece)
                at += len(piece)
                messages.append(Data(piece))
                continue
            if end - at < HEADER_BYTES:
                break
            length = int.from_bytes(data[at + 1 : at + 4], "big")
            if data[at] == FrameType.DATA:
                self._data_left = length
                at += HEADER_BYTES
                continue
            if length > MAX_CONTROL_BODY:
                raise RemoteProtocolError(f"a control frame of {length} bytes")
            stop = at + HEADER_BYTES + length
            if stop > end:
                break
            messages.append(_decode(data[at], data[at + HEADER_BYTES : stop]))
            at = stop
        self._pending = data[at:]
        return messages


def _decode(kind: int, data: bytes) -> Message:
    if kind == FrameType.END:
        return End()
    if kind == FrameType.KEEP_ALIVE:
        return KeepAlive()
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise RemoteProtocolError("the body of a control frame is not a JSON object")
    match kind:
        case FrameType.OPEN:
            return _decode_open(body)
        case FrameType.READY:
            return Ready(_decode_proof(body.get("proof")))
        case FrameType.START:
            return Start(_text(body, "service"))
        case FrameType.STARTED:
            return Started(_text(body, "service"))
        case FrameType.REFUSED:
            try:
                code = RefusalCode(_text(body, "code"))
            except ValueError:
                # A newer server may know more reasons than we do.
                code = RefusalCode.BAD_REQUEST
            return Refused(code, _text(body, "reason", _MAX_REASON))
        case _:
            raise RemoteProtocolError(f"a frame of unknown type {kind}")


def _decode_open(body: dict[str, Any]) -> Open:
    if body.get("version") != VERSION:
        raise RemoteProtocolError(
            f"version {body.get('version')!r}, expected {VERSION}"
        )
    session = body.get("session")
    try:
        guid = None if session is None else uuid.UUID(str(session))
    except ValueError:
        raise RemoteProtocolError("the session of OPEN is not a GUID") from None
    try:
        nonce = bytes.fromhex(_text(body, "nonce")) if "nonce" in body else b""
    except ValueError:
        nonce = b"?"
    if len(nonce) not in (0, NONCE_BYTES):
        raise RemoteProtocolError(f"the nonce of OPEN is not {NONCE_BYTES} bytes")
    return Open(
        guid,
        _text(body, "client"),
        nonce,
        _bytes(body, "grant"),
        _bytes(body, "possession"),
    )


def _decode_proof(value: Any) -> Proof | None:
    if value is None:
        return None
    try:
        server, system, signature = (base64.b64decode(part) for part in value)
    except (TypeError, ValueError):
        raise RemoteProtocolError("the proof of READY is malformed") from None
    return Proof((server, system), signature)


def _bytes(body: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(body.get(name, ""), validate=True)
    except (TypeError, ValueError):
        raise RemoteProtocolError(f"the {name} of OPEN is not base64") from None


def _text(body: dict[str, Any], name: str, limit: int = _MAX_TEXT) -> str:
    text = body.get(name)
    if not isinstance(text, str) or len(text) > limit:
        raise RemoteProtocolError(f"{name!r} is not a text of up to {limit} characters")
    # Texts of the far end are shown and logged: they must not steer a terminal.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
