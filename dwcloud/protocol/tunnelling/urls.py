"""URLs of mediators and relays."""

from __future__ import annotations

from urllib.parse import urlsplit

import attrs

__all__ = ["ServiceURL"]

_PORTS = {"http": 80, "https": 443}


@attrs.frozen
class ServiceURL:
    """An http or https URL, as far as a tunnel needs it.

    :ivar host: name or address, without the brackets of an IPv6 address.
    :ivar path: path in front of the service's own paths, without a slash at its end.
    """

    scheme: str
    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> ServiceURL:
        """Read ``http://HOST[:PORT][/PATH]`` or the same with https.

        :raises ValueError: if it is not one; the message says what would be right.
        """
        expected = "expected an http or https URL such as http://relay.example.org:3349"
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as e:
            raise ValueError(f"{text!r} is not a URL ({e}): {expected}") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(f"{text!r} is not a URL of a service: {expected}")
        if parts.query or parts.fragment or parts.username is not None:
            raise ValueError(f"{text!r} says more than where a service is: {expected}")
        if not (text.isascii() and text.isprintable()) or " " in text:
            raise ValueError(f"{text!r} has characters that need escaping: {expected}")
        return cls(
            parts.scheme,
            parts.hostname,
            _PORTS[parts.scheme] if port is None else port,
            parts.path.rstrip("/"),
        )

    @property
    def secure(self) -> bool:
        """Whether the connection is TLS."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Value of the ``Host`` field (RFC 9110, 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port == _PORTS[self.scheme]:
            return host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"
