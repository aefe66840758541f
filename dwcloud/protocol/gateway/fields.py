"""Header fields for one connection only, and those that go on (RFC 9110, 7.6.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["Fields", "end_to_end", "joined", "values_of"]

Fields = tuple[tuple[bytes, bytes], ...]
"""Names in lower case, and values."""

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_NEVER_NAMED = frozenset({b"content-length", b"cookie", b"host", b"set-cookie"})
"""Who names these in ``Connection`` wants the next one to read something else."""


def values_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Return the values of all fields of a name, which is in lower case."""
    return [value for key, value in headers if key == name]


def joined(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    """Return the value of a field; several are one list (RFC 9110, 5.3)."""
    separator = b"; " if name == b"cookie" else b", "
    return separator.join(values_of(headers, name))


def end_to_end(headers: Fields) -> Iterator[tuple[bytes, bytes]]:
    """Leave out what is for the next one only."""
    named = {
        option.strip().lower() for option in joined(headers, b"connection").split(b",")
    }
    dropped = _HOP_BY_HOP | (named - _NEVER_NAMED)
    return (field for field in headers if field[0] not in dropped)
