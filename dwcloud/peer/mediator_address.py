"""Where the mediator is, as people write it."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

import attrs
from twisted.internet.abstract import isIPv6Address

from dwcloud.errors import ConfigurationError
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = [
    "ASSUMED_RELAY_URL",
    "DEFAULT_PORT",
    "MediatorAddress",
    "is_loopback",
    "resolve_relay_url",
]

DEFAULT_PORT = 3345
ASSUMED_RELAY_URL = "http://:3349"
"""The relay that a mediator announces unless told otherwise: one on its own host."""
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")


@attrs.frozen
class MediatorAddress:
    """Where a mediator is.

    :ivar host: a name or an IP address, an IPv6 one without brackets.
    :ivar port: of UDP, and of TCP where there is no ``url``.
    :ivar url: where it takes HTTP, the only way to go then beside UDP.
    """

    host: str
    port: int = DEFAULT_PORT
    url: ServiceURL | None = None

    @classmethod
    def parse(cls, text: str) -> MediatorAddress:
        """Read ``HOST[:PORT]``, or the URL of a mediator.

        :raises ConfigurationError: if it is something else; the message says what
            would be right.
        """
        expected = (
            "expected HOST or HOST:PORT such as cloud.example.org:3345, or a URL such "
            "as https://cloud.example.org"
        )
        if "://" in text:
            try:
                url = ServiceURL.parse(text)
            except ValueError as e:
                raise ConfigurationError(f"{e}, or {expected[9:]}") from None
            named = bool(_HOST.fullmatch(url.host)) or isIPv6Address(url.host)
            if not named or not url.port:
                raise ConfigurationError(f"{text!r} is not a mediator: {expected}")
            return cls(url.host, url=url)
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            port = rest.removeprefix(":")
            valid = bool(bracket) and isIPv6Address(host) and rest != ":"
            valid = valid and (not rest or rest.startswith(":"))
        elif text.count(":") > 1:
            # An IPv6 address without brackets, hence without a port.
            host, port, valid = text, "", isIPv6Address(text)
        else:
            host, colon, port = text.partition(":")
            valid = bool(_HOST.fullmatch(host)) and (not colon or bool(port))
        if not valid:
            raise ConfigurationError(f"{text!r} is not a mediator: {expected}")
        if not port:
            return cls(host)
        digits = port.isascii() and port.isdigit() and len(port) <= 5
        if not digits or not 0 < int(port) < 65536:
            raise ConfigurationError(f"{port!r} in {text!r} is not a port: {expected}")
        return cls(host, int(port))

    def __str__(self) -> str:
        if self.url is not None:
            return str(self.url)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Tell whether a name or an IP address means this very machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


def resolve_relay_url(url: str, mediator: MediatorAddress) -> str:
    """Fill in the host of a relay URL that has none: the mediator's.

    :raises ConfigurationError: if it is no http or https URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https"):
        raise ConfigurationError(
            f"{url!r} is not a relay: expected a URL such as http://cloud.example.org:3349"
        )
    if parts.hostname:
        return url
    host = f"[{mediator.host}]" if ":" in mediator.host else mediator.host
    port = port or (443 if parts.scheme == "https" else 80)
    return parts._replace(netloc=f"{host}:{port}").geturl()
