"""Host names of systems and servers below a relay's domain for browsers."""

from __future__ import annotations

import re

import attrs

from dwcloud.protocol.names import PeerName

__all__ = ["WebDomain", "WebGateway", "WebHost", "split_host"]

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_HTTPS = 443
_LONGEST = 253 - 2 * 37
"""Characters of a domain that still has room for two GUIDs (RFC 1035, 2.3.4)."""


def split_host(text: str) -> tuple[str, int | None]:
    """Take the value of ``Host`` apart, in lower case.

    :return: name and port, None if there is none.
    :raises ValueError: if it is not a DNS name with or without a port.
    """
    name, colon, port = text.strip().lower().partition(":")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, name.split("."))):
        raise ValueError(f"{text[:80]!r} is not the name of a host")
    if not colon:
        return name, None
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise ValueError(f"{text[:80]!r} has no port behind its colon")
    return name, int(port)


@attrs.frozen
class WebHost:
    """A host name that stands for a system or a server.

    :ivar name: whom it stands for.
    :ivar authority: the name and, unless it is that of https, the port, as in
        ``Host`` and in URLs.
    """

    name: PeerName
    authority: str

    @property
    def origin(self) -> str:
        """As browsers name it in ``Origin`` (RFC 6454, 6.2)."""
        return f"https://{self.authority}"


@attrs.frozen
class WebDomain:
    """The domain below which browsers find systems.

    :ivar name: in lower case, such as ``relay.example.org``.
    """

    name: str

    @classmethod
    def parse(cls, text: str) -> WebDomain:
        """Read a domain as an operator writes it.

        :raises ValueError: if it is none, with what would be right.
        """
        name = text.strip().lower().removesuffix(".")
        labels = name.split(".")
        if (
            not all(map(_LABEL.fullmatch, labels))
            or labels[-1].isdigit()
            or len(name) > _LONGEST
        ):
            raise ValueError(
                f"{text!r} is not a domain: expected a name such as relay.example.org, "
                "without scheme and port"
            )
        return cls(name)

    def __str__(self) -> str:
        return self.name

    def find(self, host: str) -> WebHost | None:
        """Return what a value of ``Host`` stands for, None for anything else."""
        try:
            name, port = split_host(host)
            if not name.endswith(f".{self.name}"):
                return None
            peer = PeerName.parse(name.removesuffix(f".{self.name}"))
        except ValueError:
            return None
        return WebHost(peer, name if port in (None, _HTTPS) else f"{name}:{port}")

    def includes(self, host: str) -> bool:
        """Tell whether a value of ``Host`` is below the domain, whatever it is."""
        name = host.partition(":")[0].strip().lower().removesuffix(".")
        return name.endswith(f".{self.name}")


@attrs.frozen
class WebGateway:
    """A relay that lets browsers in, as a mediator knows it.

    :ivar domain: below which systems are found.
    :ivar port: of https there.
    """

    domain: WebDomain
    port: int = _HTTPS

    @classmethod
    def parse(cls, text: str) -> WebGateway:
        """Read ``DOMAIN[:PORT]``.

        :raises ValueError: if it is something else, with what would be right.
        """
        name, colon, port = text.strip().partition(":")
        domain = WebDomain.parse(text if "/" in text else name)
        if not colon:
            return cls(domain)
        if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
            raise ValueError(
                f"{text!r} has no port behind its colon: expected one such as "
                f"{domain}:8443"
            )
        return cls(domain, int(port))

    def __str__(self) -> str:
        """``DOMAIN[:PORT]``, without the port of https."""
        domain = str(self.domain)
        return domain if self.port == _HTTPS else f"{domain}:{self.port}"

    def find(self, host: str) -> WebHost | None:
        """Return what a value of ``Host`` stands for at this relay, if anything."""
        found = self.domain.find(host)
        if found is None:
            return None
        _, port = split_host(found.authority)
        return found if (port or _HTTPS) == self.port else None
