"""Connection parameters: tuned by the mediator's operator, told to both sides.

Durations are seconds here and whole milliseconds on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from struct import Struct
from typing import Any

import attrs

from dwcloud.protocol.errors import RemoteProtocolError

__all__ = ["ConnectionParameters", "KeepAlive", "Transport"]

_ENTRY = Struct("!HI")
_KEEP_ALIVE = Struct("!III")
_MAX_ENTRIES = 64
_MAX_DURATION = 86_400.0
_MAX_COUNT = 1000


class Transport(IntEnum):
    """A transport that is preferred over the others, at the price of waiting."""

    NONE = 0
    UDP = 1
    TCP = 2


def _duration(number: int, default: float) -> Any:
    return attrs.field(default=default, metadata={"number": number, "unit": "s"})


def _count(number: int, default: int) -> Any:
    return attrs.field(default=default, metadata={"number": number, "unit": "count"})


@attrs.frozen(kw_only=True)
class ConnectionParameters:
    """How both sides go about a connection; all have defaults.

    :ivar rendezvous_timeout: how long the UDP rendezvous is tried.
    :ivar udp_keep_alive_interval: silence after which a UDP tunnel is probed, and
        time between probes.
    :ivar udp_keep_alive_misses: unanswered probes after which a tunnel is dead.
    :ivar tunnel_inactivity_timeout: a UDP tunnel without streams is kept this long.
    :ivar udp_start_delay: wait before the UDP attempt.
    :ivar tcp_start_delay: wait before the TCP attempts.
    :ivar relay_start_delay: wait before the relay attempt.
    :ivar relay_grace: a relay path that is ready waits this long for a direct one
        that is still in progress.
    :ivar ack_timeout: the mediator waits this long for ``connection_ack``.
    :ivar connect_timeout: time limit for the whole of a connection.
    :ivar preferred_transport: the transport given precedence.
    """

    rendezvous_timeout: float = _duration(1, 15.0)
    udp_keep_alive_interval: float = _duration(2, 10.0)
    udp_keep_alive_misses: int = _count(3, 3)
    tunnel_inactivity_timeout: float = _duration(4, 480.0)
    udp_start_delay: float = _duration(5, 0.0)
    tcp_start_delay: float = _duration(6, 0.0)
    relay_start_delay: float = _duration(7, 0.0)
    relay_grace: float = _duration(8, 0.3)
    ack_timeout: float = _duration(9, 3.0)
    connect_timeout: float = _duration(10, 20.0)
    preferred_transport: Transport = attrs.field(
        default=Transport.NONE, metadata={"number": 11, "unit": "transport"}
    )

    def encode(self) -> bytes:
        """Return the parameters that differ from the defaults, for the wire.

        Both sides know the defaults, so that the usual answer stays small.
        """
        encoded = bytearray()
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            if value != field.default:
                scale = 1000 if field.metadata["unit"] == "s" else 1
                encoded += _ENTRY.pack(field.metadata["number"], round(value * scale))
        return bytes(encoded)

    @classmethod
    def decode(cls, data: bytes) -> ConnectionParameters:
        """Read parameters; numbers and transports not known here are skipped.

        :raises RemoteProtocolError: code 400, if the data is malformed.
        """
        if len(data) % _ENTRY.size or len(data) > _MAX_ENTRIES * _ENTRY.size:
            raise RemoteProtocolError("malformed connection parameters", 400)
        fields = {f.metadata["number"]: f for f in attrs.fields(cls)}
        values: dict[str, Any] = {}
        for number, raw in _ENTRY.iter_unpack(data):
            field = fields.get(number)
            if field is not None:
                values.update(_decoded(field.name, field.metadata["unit"], raw))
        return cls(**values)

    def replace(self, settings: Mapping[str, str]) -> ConnectionParameters:
        """Return the parameters with some values changed, given as an operator does.

        :raises ValueError: the message says what was wrong and what would be right.
        """
        fields = attrs.fields_dict(type(self))
        values: dict[str, Any] = {}
        for name, text in settings.items():
            if name not in fields:
                known = ", ".join(sorted(fields))
                raise ValueError(f"{name!r} is not a parameter; there are: {known}")
            values[name] = _parsed(name, fields[name].metadata["unit"], text)
        return attrs.evolve(self, **values)


def _decoded(name: str, unit: str, raw: int) -> dict[str, Any]:
    if unit == "s":
        return {name: min(raw / 1000, _MAX_DURATION)}
    if unit == "count":
        return {name: min(raw, _MAX_COUNT)}
    try:
        return {name: Transport(raw)}
    except ValueError:
        return {}


def _parsed(name: str, unit: str, text: str) -> float | int | Transport:
    try:
        if unit == "transport":
            return Transport[text.upper()]
        if unit == "count":
            value: float | int = int(text)
            valid = 1 <= value <= _MAX_COUNT
        else:
            value = float(text)
            valid = 0 <= value <= _MAX_DURATION
    except (ValueError, KeyError):
        valid = False
    if not valid:
        expected = {
            "s": f"seconds between 0 and {_MAX_DURATION:.0f}",
            "count": f"a whole number between 1 and {_MAX_COUNT}",
            "transport": "none, udp or tcp",
        }[unit]
        raise ValueError(f"{name}={text!r} is not possible: expected {expected}")
    return value


@attrs.frozen
class KeepAlive:
    """How a server checks its control channel (docs/protocol/mediation).

    :ivar idle: silence after which it asks for the first time.
    :ivar interval: time between questions that get no answer.
    :ivar misses: unanswered questions after which the channel is dead.
    """

    idle: float = 10.0
    interval: float = 10.0
    misses: int = 3

    @property
    def limit(self) -> float:
        """Silence after which the channel is dead."""
        return self.idle + self.interval * self.misses

    def encode(self) -> bytes:
        """Return the settings for the wire: two times milliseconds, and a count."""
        return _KEEP_ALIVE.pack(
            round(self.idle * 1000), round(self.interval * 1000), self.misses
        )

    @classmethod
    def decode(cls, data: bytes) -> KeepAlive:
        """Read the settings, forced into the range that works.

        :raises RemoteProtocolError: code 400, if the data is malformed.
        """
        if len(data) != _KEEP_ALIVE.size:
            raise RemoteProtocolError("malformed keep-alive settings", 400)
        idle, interval, misses = _KEEP_ALIVE.unpack(data)
        # A mediator must not be able to make a server send without pause, or to
        # make it never notice a dead channel.
        return cls(
            min(max(idle / 1000, 1.0), 600.0),
            min(max(interval / 1000, 1.0), 600.0),
            min(max(misses, 1), 100),
        )
