"""What the commands' options have in common, and how their values are read."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import attrs
from twisted.python import usage

from dwcloud.cli.command import CommandOptions, require
from dwcloud.net.identity import default_identity_directory
from dwcloud.net.log_lines import LOG_FORMATS
from dwcloud.net.method_memory import MethodMemory, default_memory_file
from dwcloud.net.tunnel_opening import AUTO, check_method
from dwcloud.peer.connect_options import ConnectOptions
from dwcloud.peer.credentials import CredentialStore
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.system_names import SystemReference, read_reference
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.tunnelling.methods import METHOD_NAMES
from dwcloud.protocol.tunnelling.proxies import NO_PROXIES, Proxy, ProxySettings

__all__ = [
    "MEDIATOR_VARIABLE",
    "ClientOptions",
    "Endpoint",
    "IdentityOptions",
    "MediatorOptions",
    "NetworkOptions",
    "one_of",
    "read_endpoint",
    "read_new_name",
    "read_peer",
    "read_port",
    "read_service_name",
    "value_of",
]

MEDIATOR_VARIABLE = "DWCLOUD_MEDIATOR"
"""Names the mediator where no option does."""

_SERVICE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_SYSTEM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?")
_T = TypeVar("_T")


def value_of(
    what: str, read: Callable[[str], _T], meaning: str = ""
) -> Callable[[str], _T]:
    """A reader for the value of an option, which names the option in its error.

    :param what: the option, or what the argument is.
    :param meaning: printed after the option in the help.
    """

    def coerce(text: str) -> _T:
        try:
            return read(text)
        except ValueError as e:
            raise usage.UsageError(f"{what}: {e}") from None

    coerce.coerceDoc = meaning  # type: ignore[attr-defined]
    return coerce


def read_port(text: str) -> int:
    """Read a port number, 0 for any.

    :raises ValueError: if it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536):
        raise ValueError(f"{text!r} is not a port: expected a number up to 65535")
    return int(text)


def read_address(text: str) -> str:
    """Read an IP address.

    :raises ValueError: if it is none.
    """
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(
            f"{text!r} is not an IP address such as 192.0.2.1 or ::1"
        ) from None


def read_proxies(text: str) -> ProxySettings:
    """Read a proxy for everything, or ``none``.

    :raises ValueError: if it is neither.
    """
    return NO_PROXIES if text == "none" else ProxySettings.of(Proxy.parse(text))


def read_seconds(text: str) -> float:
    """Read a positive duration.

    :raises ValueError: if it is none.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"{text!r} is not a number of seconds above 0")
    return seconds


def read_service_name(text: str) -> str:
    """Read the name of a service.

    :raises ValueError: if it is none.
    """
    if not _SERVICE_NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a service name: expected letters, digits, '-', '_' and "
            "'.', such as web"
        )
    return text


def read_new_name(text: str) -> str:
    """Read a name that a system is to have.

    :raises ValueError: if it cannot be one.
    """
    if not _SYSTEM_NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} cannot be a system's name: expected up to 63 letters a to z, "
            "digits, '.', '_' and '-', such as garage"
        )
    return text.lower()


def read_peer(text: str) -> PeerName | SystemReference:
    """Read a peer name, or the name that people gave to a system.

    :raises ValueError: if it is neither.
    """
    return read_reference(text)


@attrs.frozen
class Endpoint:
    """A TCP endpoint as people write it.

    :ivar host: a name or an IP address, an IPv6 one without brackets.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def read_endpoint(text: str) -> Endpoint:
    """Read ``HOST:PORT``.

    :raises ValueError: if it is something else; the message says what would be right.
    """
    expected = "expected HOST:PORT such as 127.0.0.1:8080"
    host, colon, port_text = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r} has no port: {expected}")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(read_address(host[1:-1])))
    elif not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{host!r} in {text!r} is not a host: {expected}")
    return Endpoint(host, read_port(port_text))


def one_of(what: str, *choices: str) -> Callable[[str], str]:
    """A reader for the value of an option that is one of a few words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is not one of {', '.join(choices)}")
        return text

    return value_of(what, read)


_MEDIATOR_HELP = (
    "Where the mediator is, HOST or HOST:PORT (port 3345 unless given), or a URL "
    "http[s]://HOST[:PORT] to go by HTTP alone. The "
    f"environment variable {MEDIATOR_VARIABLE} may name it instead; without both it is "
    "the one where you are signed in."
)


_PROXY_HELP = (
    "The HTTP proxy that leads to mediator and relays, [USER:PASSWORD@]HOST:PORT, or "
    "none. Without this option the variables http_proxy, https_proxy, all_proxy and "
    "no_proxy decide."
)


_METHOD_HELP = (
    "The only tunnelling method to use inside HTTP: " + ", ".join(METHOD_NAMES) + ". "
    "Without this option the cheapest that works is found out and remembered."
)


class MediatorOptions(CommandOptions):
    """Options of a command that speaks with a mediator."""

    optFlags = [
        ["verbose", None, "Log to standard error what goes on inside."],
    ]
    optParameters = [
        [
            "mediator",
            "m",
            None,
            _MEDIATOR_HELP,
            value_of("--mediator", MediatorAddress.parse),
        ],
        [
            "interface",
            None,
            None,
            "Use only this local IP address.",
            value_of("--interface", read_address),
        ],
        [
            "proxy",
            None,
            None,
            _PROXY_HELP,
            value_of("--proxy", read_proxies),
        ],
        [
            "log-format",
            None,
            "text",
            "How --verbose logs: text, or json with one object a line.",
            one_of("--log-format", *LOG_FORMATS),
        ],
    ]

    @property
    def mediator(self) -> MediatorAddress | None:
        """The mediator from the option, the environment, or where one is signed in.

        None without any of them.
        """
        if self["mediator"] is not None:
            return self["mediator"]  # type: ignore[no-any-return]
        text = os.environ.get(MEDIATOR_VARIABLE, "")
        if text:
            return value_of(MEDIATOR_VARIABLE, MediatorAddress.parse)(text)
        current = CredentialStore().current
        return None if current is None else MediatorAddress.parse(current)

    @property
    def interface(self) -> str:
        """The only local IP address to use, empty for any."""
        return self["interface"] or ""

    @property
    def proxies(self) -> ProxySettings:
        """The proxies from the option or the environment."""
        if self["proxy"] is not None:
            return self["proxy"]  # type: ignore[no-any-return]
        try:
            return ProxySettings.from_environment(os.environ)
        except ValueError as e:
            raise usage.UsageError(str(e)) from None

    def postOptions(self) -> None:
        """Tell what is wrong in the environment now."""
        _ = self.mediator, self.proxies
        super().postOptions()  # type: ignore[no-untyped-call]


class NetworkOptions(MediatorOptions):
    """Options of a command that uses the paths of the cloud."""

    optFlags = [
        ["no-lan", None, "Neither look for servers on the LAN nor announce one there."],
    ]
    optParameters = [
        [
            "method",
            None,
            AUTO,
            _METHOD_HELP,
            value_of("--method", check_method),
        ],
    ]

    @property
    def method(self) -> str:
        """The only tunnelling method to use, or ``auto``."""
        return str(self["method"])

    @property
    def method_memory(self) -> MethodMemory:
        """What is known of tunnelling methods on this machine."""
        return MethodMemory(default_memory_file())

    @property
    def lan(self) -> bool:
        """Whether the LAN is used."""
        return not self["no-lan"]

    def postOptions(self) -> None:
        """Refuse to look nowhere at all."""
        require(
            self.mediator is not None or self.lan,
            f"--mediator (or {MEDIATOR_VARIABLE}) is needed with --no-lan",
        )
        super().postOptions()


class IdentityOptions(CommandOptions):
    """Options of a command that uses an identity of this machine."""

    optParameters = [
        [
            "identity",
            "i",
            None,
            "Directory of the identity; without it dwcloud/identity in "
            "$XDG_DATA_HOME or ~/.local/share.",
        ],
    ]

    @property
    def identity_directory(self) -> Path:
        """Where the identity is."""
        if self["identity"] is None:
            return default_identity_directory()
        return Path(self["identity"]).expanduser()

    def postOptions(self) -> None:
        """Refuse an empty directory name, which would mean the current one."""
        require(self["identity"] != "", "--identity: name a directory")
        super().postOptions()  # type: ignore[no-untyped-call]


class ClientOptions(NetworkOptions):
    """Options of a command that connects to a server."""

    optFlags = [
        ["json", None, "One line of JSON on standard error for each connection."],
        [
            "no-tls",
            None,
            "Send in the clear what the application encrypts by itself; "
            "the server must offer the service so, by --plain.",
        ],
    ]
    optParameters = [
        [
            "path",
            None,
            "auto",
            "Allow only this kind of path: lan, tcp, udp or relay.",
            one_of("--path", "auto", "lan", "tcp", "udp", "relay"),
        ],
        [
            "prefer",
            None,
            None,
            "Wait a moment for this transport, udp or tcp.",
            one_of("--prefer", "udp", "tcp"),
        ],
        [
            "timeout",
            "t",
            20,
            "Seconds that a connection may take.",
            value_of("--timeout", read_seconds),
        ],
    ]

    @property
    def connect_options(self) -> ConnectOptions:
        """How to connect."""
        return ConnectOptions(
            path=self["path"],
            prefer=self["prefer"],
            timeout=float(self["timeout"]),
            tls=not self["no-tls"],
        )

    def postOptions(self) -> None:
        """Refuse what excludes itself."""
        super().postOptions()
        path, prefer = self["path"], self["prefer"]
        require(
            not (path == "lan" and not self.lan),
            "--path lan and --no-lan exclude each other",
        )
        require(
            path == "lan" or self.mediator is not None,
            f"name the mediator: --mediator HOST[:PORT] or {MEDIATOR_VARIABLE} in the "
            "environment (only --path lan needs none)",
        )
        require(
            prefer is None or path == "auto",
            f"--prefer {prefer} has no effect with --path {path}: use one of them",
        )
