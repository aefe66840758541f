"""STUN (RFC 8489): messages, integrity, stream framing, client transactions."""

from dwcloud.protocol.stun.attributes import BINDING, AttributeType
from dwcloud.protocol.stun.message import (
    MessageClass,
    RawAttribute,
    STUNMessage,
    is_stun,
)
from dwcloud.protocol.stun.stream import StreamDecoder

__all__ = [
    "BINDING",
    "AttributeType",
    "MessageClass",
    "RawAttribute",
    "STUNMessage",
    "StreamDecoder",
    "is_stun",
]
