"""Probes: small datagrams that prove to belong to a connect session.

A probe is a STUN indication, so that it shares a port with STUN and UDT and is never
taken for UDT. Its transaction id is the sender's *hello* to that address; whoever
echoes a hello has received what was sent there (docs/protocol/punching).
"""

from __future__ import annotations

import hashlib
import hmac
import uuid

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage

__all__ = [
    "HELLO_LENGTH",
    "METHOD",
    "NOTHING_HEARD",
    "PROBE",
    "PROBE_LENGTH",
    "TAG_LENGTH",
    "Probe",
    "ProbeCodec",
    "punch_key",
    "tag_of",
]

METHOD = 0xD09
"""The STUN method of probes; those of mediation end before it."""
PROBE = 0x4D13
"""The STUN attribute of probes: tag (8 bytes), flags (4), hello heard (12)."""

HELLO_LENGTH = 12
TAG_LENGTH = 8
PROBE_LENGTH = 84
"""Bytes of every probe: an answer is never longer than what it answers."""
NOTHING_HEARD = bytes(HELLO_LENGTH)

_FROM_SERVER = 1
_IN_USE = 2
_ATTRIBUTE_LENGTH = TAG_LENGTH + 4 + HELLO_LENGTH
_ATTRIBUTE_AT = 24
"""Offset of the attribute's value, which is the first one always."""


def punch_key(token: bytes, session_id: uuid.UUID) -> bytes:
    """Return the key of a session's probes, 32 bytes.

    :param token: that of the session, which mediator and server know.
    """
    text = b"dwcloud punch 1" + session_id.bytes
    return hmac.digest(token, text, hashlib.sha256)


def tag_of(datagram: bytes) -> bytes | None:
    """Return the tag of a datagram that may be a probe, None for any other."""
    if len(datagram) != PROBE_LENGTH:
        return None
    return datagram[_ATTRIBUTE_AT : _ATTRIBUTE_AT + TAG_LENGTH]


@attrs.frozen
class Probe:
    """What a probe says.

    :ivar hello: 12 random bytes, for this session and the address it is sent to.
    :ivar heard: the latest hello that came from that address, or zeros.
    :ivar in_use: whether the sender tries to connect to that address.
    """

    hello: bytes
    heard: bytes = NOTHING_HEARD
    in_use: bool = False


class ProbeCodec:
    """Makes and reads the probes of one session, for one of its ends.

    :param key: see :func:`punch_key`.
    :param from_server: whether this end is the server's.
    :ivar tag: tells the session's probes from those of others.
    """

    def __init__(self, key: bytes, *, from_server: bool) -> None:
        self._key = key
        self._from_server = from_server
        self.tag = hmac.digest(key, b"tag", hashlib.sha256)[:TAG_LENGTH]

    def encode(self, probe: Probe) -> bytes:
        """Return a probe for the wire."""
        flags = _FROM_SERVER if self._from_server else 0
        if probe.in_use:
            flags |= _IN_USE
        value = self.tag + flags.to_bytes(4, "big") + probe.heard
        message = STUNMessage(
            METHOD, MessageClass.INDICATION, probe.hello, (RawAttribute(PROBE, value),)
        )
        return message.encode(integrity_key=self._key)

    def decode(self, datagram: bytes) -> Probe:
        """Read a probe of the other end.

        :raises RemoteProtocolError: if it is anything else, or not authentic. A probe
            of this end, sent back by whomever, is not one of the other end.
        """
        message = STUNMessage.decode(datagram)
        value = message.get(PROBE)
        if (
            message.method != METHOD
            or message.message_class is not MessageClass.INDICATION
            or value is None
            or len(value) != _ATTRIBUTE_LENGTH
            or not hmac.compare_digest(value[:TAG_LENGTH], self.tag)
            or not message.verify_integrity(self._key)
        ):
            raise RemoteProtocolError("not a probe of this session", 401)
        flags = int.from_bytes(value[TAG_LENGTH : TAG_LENGTH + 4], "big")
        if bool(flags & _FROM_SERVER) is self._from_server:
            raise RemoteProtocolError("a probe of this very end", 401)
        return Probe(
            message.transaction_id, value[-HELLO_LENGTH:], bool(flags & _IN_USE)
        )
