"""Which proxy leads to a host, as an option or the environment says."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import attrs

__all__ = ["NO_PROXIES", "Proxy", "ProxySettings"]

_PORTS = {"http": 80, "https": 443}
_LOCAL = ("localhost", "127.0.0.0/8", "::1")


@attrs.frozen
class Proxy:
    """An HTTP proxy.

    :ivar host: name or address, without the brackets of an IPv6 address.
    :ivar secure: whether the connection to the proxy itself is TLS.
    :ivar username: None without credentials.
    """

    host: str
    port: int
    secure: bool = False
    username: str | None = None
    password: str = attrs.field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """Read ``[http[s]://][USER[:PASSWORD]@]HOST[:PORT]``.

        :raises ValueError: if it is something else; the message says what would be
            right, and repeats nothing of the text, which may hold a password.
        """
        expected = (
            "expected a proxy such as http://USER:PASSWORD@proxy.example.org:3128"
        )
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            port = parts.port
        except ValueError:
            raise ValueError(f"that is not a URL: {expected}") from None
        if parts.scheme not in _PORTS:
            raise ValueError(f"{parts.scheme} proxies are not supported: {expected}")
        if not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ValueError(f"that is not a proxy: {expected}")
        if not parts.hostname.isascii() or not parts.hostname.isprintable():
            raise ValueError(f"the host has characters that no host has: {expected}")
        return cls(
            parts.hostname,
            port or _PORTS[parts.scheme],
            parts.scheme == "https",
            None if parts.username is None else unquote(parts.username),
            unquote(parts.password or ""),
        )

    def __str__(self) -> str:
        """Host and port, without the password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@attrs.frozen
class ProxySettings:
    """Which proxy to use for which destination.

    :ivar http: for plain connections; None for none.
    :ivar https: for TLS and anything else that is not HTTP.
    :ivar exceptions: hosts to reach without a proxy, as in ``no_proxy``: names, which
        mean the names below them too, addresses, networks, each perhaps with a port,
        or ``*``.
    """

    http: Proxy | None = None
    https: Proxy | None = None
    exceptions: tuple[str, ...] = ()

    @classmethod
    def of(cls, proxy: Proxy) -> ProxySettings:
        """Use one proxy for everything."""
        return cls(proxy, proxy)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ProxySettings:
        """Read ``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy``.

        Names in lower case come first. ``HTTP_PROXY`` does not count: in a CGI program
        it is a header field of a stranger's request. This machine itself is never
        reached through a proxy.

        :raises ValueError: if a value is not a proxy; the message names the variable.
        """

        def read(*names: str) -> Proxy | None:
            for name in names:
                if text := environment.get(name, "").strip():
                    try:
                        return Proxy.parse(text)
                    except ValueError as e:
                        raise ValueError(f"{name} in the environment: {e}") from None
            return None

        any_ = ("all_proxy", "ALL_PROXY")
        listed = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
        # Some write blanks in place of commas, as curl allows.
        entries = listed.lower().replace(",", " ").split()
        return cls(
            read("http_proxy", *any_),
            read("https_proxy", "HTTPS_PROXY", *any_),
            (*entries, *_LOCAL),
        )

    def choose(self, host: str, port: int, *, secure: bool = True) -> Proxy | None:
        """Return the proxy that leads to a host, None for a direct connection.

        :param secure: False only for plain HTTP.
        """
        if any(_matches(entry, host.lower(), port) for entry in self.exceptions):
            return None
        return self.https if secure else self.http


NO_PROXIES = ProxySettings()
"""Direct connections only."""


def _matches(entry: str, host: str, port: int) -> bool:
    """Tell whether an entry of ``no_proxy`` means a host; ``host`` in lower case."""
    if entry == "*":
        return True
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        name, colon, number = entry.rpartition(":")
        if colon and number.isdigit():
            return int(number) == port and _matches(name, host, port)
        name = entry.removeprefix("*").strip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False
