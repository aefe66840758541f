"""``twistd mediator``: options of the command line, and the service they make."""

from __future__ import annotations

import sys
import uuid
from importlib.metadata import version
from typing import Any, NoReturn
from urllib.parse import urlsplit

import attrs
from twisted.application.service import IService
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.python import usage

from dwcloud.mediator.configuration import (
    DEFAULT_PORT,
    DEFAULT_RELAY_URL,
    AllowAnyone,
    AllowListed,
    MediatorConfiguration,
    RegistrationPolicy,
)
from dwcloud.mediator.service import MediatorService, StreamSocket, UDPSocket
from dwcloud.net.start_failure import exit_twistd
from dwcloud.protocol.mediation.attributes import MAX_RELAY_URLS, RELAY_URL
from dwcloud.protocol.mediation.parameters import ConnectionParameters, KeepAlive
from dwcloud.protocol.names import parse_guid

__all__ = ["Options", "makeService"]

_NONE = "none"
_EXAMPLES = """
Examples:
  with all defaults
      twistd -n mediator
  with a relay elsewhere
      twistd -n mediator --relay https://relay.example.org
  for servers behind a firewall that lets only HTTPS through
      twistd -n mediator --https ssl:443:privateKey=key.pem:certKey=chain.pem
  for slow networks
      twistd -n mediator --parameter ack_timeout=5 --parameter relay_grace=1
"""
_RECONNECT_DELAY = "reconnect_delay"
_KEEP_ALIVE_PREFIX = "keep_alive_"


class Options(usage.Options):
    """Options of ``twistd mediator``."""

    synopsis = "[options]"
    longdesc = (
        "Introduces servers and clients to each other that are behind NATs. Servers "
        "keep a TCP connection to it; clients ask it over UDP, and over TCP where UDP "
        "does not get through. Without any option it listens on TCP and UDP port "
        f"{DEFAULT_PORT} and announces a relay on the same host at port 3349. Any STUN "
        "client can test it: it answers Binding requests on both ports."
    )

    reactor: Any = None

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["listen"] = []
        self["https"] = []
        self["udp"] = []
        self["relay"] = []
        self["parameters"] = {}
        self["systems"] = []

    def getUsage(self, width: int | None = None) -> str:
        """Return the help, with examples at the end (called by twistd)."""
        return str(super().getUsage(width)) + _EXAMPLES

    def opt_listen(self, endpoint: str) -> None:
        """Serve TCP on this endpoint, such as tcp:3345 or
        tcp:3345:interface=192.0.2.1; it carries STUN, and HTTP for tunnels. Repeatable;
        'none' for no such socket. [default: tcp:3345]"""
        self["listen"].append(endpoint)

    def opt_udp(self, port: str) -> None:
        """Serve UDP on PORT, or on PORT:interface=ADDRESS. Repeatable; 'none' for no
        such socket, with which no hole is ever punched. [default: 3345]"""
        self["udp"].append(port)

    def opt_https(self, endpoint: str) -> None:
        """Serve the control channel inside HTTP on this endpoint, such as
        ssl:443:privateKey=key.pem:certKey=chain.pem, for networks that let nothing
        else through. Repeatable."""
        self["https"].append(endpoint)

    def opt_relay(self, url: str) -> None:
        """Announce this relay, such as http://relay.example.org:3349; an empty host
        means that of the mediator. Repeatable; 'none' for no relay.
        [default: http://:3349]"""
        self["relay"].append(url)

    def opt_parameter(self, setting: str) -> None:
        """Set a connection parameter, NAME=VALUE, for all servers and clients.
        Repeatable. Durations, in seconds: {durations}. Counts: {counts}.
        preferred_transport: none, udp or tcp."""
        name, equals, value = setting.partition("=")
        if not equals:
            raise usage.UsageError(
                f"--parameter {setting}: expected NAME=VALUE such as ack_timeout=3"
            )
        self["parameters"][name.strip()] = value.strip()

    def opt_allow_system(self, guid: str) -> None:
        """Let servers of this system register. Repeatable; without it servers of all
        systems may."""
        try:
            self["systems"].append(parse_guid(guid))
        except ValueError as error:
            raise usage.UsageError(f"--allow-system: {error}") from None

    def opt_version(self) -> NoReturn:
        """Print the version of dwcloud and exit."""
        print(f"dwcloud {version('dwcloud')}")
        sys.exit(0)

    def postOptions(self) -> None:
        """Check everything, so that mistakes are told before anything starts."""
        self["listen"] = _given("--listen", self["listen"], f"tcp:{DEFAULT_PORT}")
        self["udp"] = _given("--udp", self["udp"], str(DEFAULT_PORT))
        self["relay"] = _given("--relay", self["relay"], DEFAULT_RELAY_URL)
        self["datagrams"] = [_udp_socket(text) for text in self["udp"]]
        reactor = self.reactor or _global_reactor()
        self["streams"] = self.streams(reactor)
        if not (self["streams"] or self["datagrams"]):
            raise usage.UsageError("there is no socket left to listen on")
        self["configuration"] = MediatorConfiguration(
            relay_urls=_relay_urls(self["relay"]),
            policy=_policy(self["systems"]),
            **_parameters(self["parameters"]),
        )

    def streams(self, reactor: Any) -> list[StreamSocket]:
        """Return the TCP sockets."""
        return [
            StreamSocket(text, _endpoint(reactor, option, text), kind)
            for option, kind in (("listen", "tcp"), ("https", "https"))
            for text in self[option]
        ]


def _names(unit: str) -> str:
    """List the parameters of a unit, for the help."""
    names = [
        field.name
        for field in attrs.fields(ConnectionParameters)
        if field.metadata["unit"] == unit
    ]
    if unit == "s":
        names += ["keep_alive_idle", "keep_alive_interval", _RECONNECT_DELAY]
    else:
        names.append("keep_alive_misses")
    return ", ".join(names)


def _fill_in_help() -> None:
    """Complete the help texts; usage.Options shows them with all their blanks."""
    for name, method in vars(Options).items():
        if name.startswith("opt_"):
            text = " ".join(method.__doc__.split())
            method.__doc__ = text.format(durations=_names("s"), counts=_names("count"))


_fill_in_help()


def _given(option: str, texts: list[str], default: str) -> list[str]:
    if not texts:
        return [default]
    if _NONE in texts and len(texts) > 1:
        raise usage.UsageError(f"{option} none goes with no other {option}")
    return [] if texts == [_NONE] else texts


def _global_reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def _endpoint(reactor: Any, option: str, text: str) -> Any:
    try:
        return serverFromString(reactor, text)
    except Exception as error:
        # Parsers of endpoint strings raise what comes their way.
        raise usage.UsageError(
            f"--{option} {text}: {error or type(error).__name__}; expected an endpoint "
            "such as tcp:3345 or tcp:3345:interface=192.0.2.1"
        ) from None


def _udp_socket(text: str) -> UDPSocket:
    port, colon, rest = text.partition(":")
    key, equals, interface = rest.partition("=")
    interface = interface.replace("\\:", ":")
    valid = port.isascii() and port.isdigit() and int(port[:6]) < 65536
    if colon:
        valid &= key == "interface" and bool(equals)
        valid &= isIPAddress(interface) or isIPv6Address(interface)
    if not valid:
        raise usage.UsageError(
            f"--udp {text}: expected a port such as 3345, or "
            "3345:interface=192.0.2.1 with an IP address of this machine"
        )
    return UDPSocket(int(port), interface)


def _relay_urls(urls: list[str]) -> tuple[str, ...]:
    if len(urls) > MAX_RELAY_URLS:
        raise usage.UsageError(f"--relay: at most {MAX_RELAY_URLS} can be announced")
    for url in urls:
        try:
            parts = urlsplit(url)
            valid = parts.scheme in ("http", "https") and bool(parts.netloc)
            valid &= parts.port is None or parts.port > 0
            valid &= not (parts.query or parts.fragment)
            RELAY_URL.encode(url, b"")
        except Exception:
            valid = False
        if not valid:
            raise usage.UsageError(
                f"--relay {url}: expected a URL such as http://relay.example.org:3349 "
                "or http://:3349, or none"
            )
    return tuple(urls)


def _policy(systems: list[uuid.UUID]) -> RegistrationPolicy:
    return AllowListed(frozenset(systems)) if systems else AllowAnyone()


def _parameters(settings: dict[str, str]) -> dict[str, Any]:
    """Sort ``--parameter`` by what they concern."""
    keep_alive = {_KEEP_ALIVE_PREFIX + n.name for n in attrs.fields(KeepAlive)}
    changed: dict[str, Any] = {}
    connection: dict[str, str] = {}
    result: dict[str, Any] = {}
    for name, text in settings.items():
        if name == _RECONNECT_DELAY:
            result[name] = _number(name, text, float, 0.1, 600)
        elif name in keep_alive:
            field = name.removeprefix(_KEEP_ALIVE_PREFIX)
            kind, most = (int, 100) if field == "misses" else (float, 600)
            changed[field] = _number(name, text, kind, 1, most)
        else:
            connection[name] = text
    try:
        parameters = ConnectionParameters().replace(connection)
    except ValueError as error:
        raise usage.UsageError(f"--parameter {error}") from None
    return {**result, "parameters": parameters, "keep_alive": KeepAlive(**changed)}


def _number(name: str, text: str, kind: Any, least: float, most: float) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        raise usage.UsageError(
            f"--parameter {name}={text}: expected a number between {least:g} and {most}"
        )
    return value


class _TwistdMediator(MediatorService):
    """A mediator that ends twistd when it cannot start."""

    def __init__(self, options: Options, *args: Any) -> None:
        super().__init__(*args)
        self._options = options

    def privilegedStartService(self) -> None:
        """Open all sockets, or exit."""
        try:
            super().privilegedStartService()
        except (CannotListenError, OverflowError) as error:
            exit_twistd(
                self._options,
                f"mediator: {error} Choose other sockets by --listen and --udp.",
            )


def makeService(options: Options, reactor: Any = None) -> IService:
    """Make the service (called by twistd).

    :param reactor: the reactor to run on; twistd's by default.
    """
    streams = options["streams"] if reactor is None else options.streams(reactor)
    service: IService = _TwistdMediator(
        options,
        reactor or options.reactor or _global_reactor(),
        options["configuration"],
        streams,
        options["datagrams"],
    )
    return service
