"""CONNECT through a proxy (RFC 9110, 9.3.6) and what the proxy asks for (11.7)."""

from __future__ import annotations

import re

import attrs

from dwcloud.protocol.tunnelling.methods import HeaderList, RequestHead

__all__ = [
    "ProxyChallenge",
    "connect_request",
    "connect_target",
    "read_challenges",
    "why_refused",
]

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+|$)(?!\s*=)")


def connect_target(host: str, port: int) -> str:
    """The target of a CONNECT request, which is also its ``Host``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connect_request(host: str, port: int, authorization: str = "") -> RequestHead:
    """The request for a connection to ``host``.

    :param authorization: value of ``Proxy-Authorization``; empty for none.
    """
    headers: list[tuple[bytes, bytes]] = [(b"proxy-connection", b"keep-alive")]
    if authorization:
        value = authorization.encode("latin-1", "replace")
        headers.append((b"proxy-authorization", value))
    return RequestHead("CONNECT", connect_target(host, port), tuple(headers))


@attrs.frozen
class ProxyChallenge:
    """One of the ways in which a proxy lets its users prove themselves.

    :ivar scheme: in lower case: ``basic``, ``digest``, ``negotiate``...
    :ivar parameters: the text behind it.
    """

    scheme: str
    parameters: str


def read_challenges(headers: HeaderList) -> tuple[ProxyChallenge, ...]:
    """Read all ``Proxy-Authenticate`` fields of an answer 407.

    A field may hold several challenges, divided by the same comma as their parameters.
    """
    found: list[ProxyChallenge] = []
    for key, value in headers:
        if key != b"proxy-authenticate":
            continue
        for part in _split(value.decode("latin-1")):
            match = _SCHEME.match(part)
            if match is not None:
                found.append(ProxyChallenge(match[1].lower(), part[match.end() :]))
            elif found:
                last = found[-1]
                text = f"{last.parameters}, {part.strip()}"
                found[-1] = ProxyChallenge(last.scheme, text)
    return tuple(found)


def _split(text: str) -> list[str]:
    """Divide at commas outside of quotes."""
    return re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*"|")+', text)


def why_refused(status: int) -> str:
    """What the status of an answer to CONNECT most likely means, for people."""
    return {
        403: "its rules do not allow that (many proxies allow port 443 alone)",
        405: "it knows no CONNECT",
        407: "it wants a user name and a password",
        501: "it knows no CONNECT",
        502: "it could not connect there",
        503: "it could not connect there",
        504: "it got no answer from there",
    }.get(status, f"its answer was HTTP status {status}")
