"""``twistd mediator``: options of the command line, and the service they make."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit

import attrs
from twisted.application.service import IService
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.python import usage

from dwcloud.errors import ConfigurationError
from dwcloud.mediator.configuration import (
    DEFAULT_PORT,
    DEFAULT_RELAY_URL,
    AllowAnyone,
    AllowListed,
    MediatorConfiguration,
    RegistrationPolicy,
)
from dwcloud.mediator.service import MediatorService, StreamSocket, UDPSocket
from dwcloud.net.dual_stack import on_all_addresses
from dwcloud.net.http_messages import Routes
from dwcloud.net.log_lines import LogOptions, use_log_format
from dwcloud.net.observation import MetricsOptions
from dwcloud.net.option_help import unfold_help
from dwcloud.net.start_failure import exit_twistd
from dwcloud.protocol.addresses import Address, parse_address
from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.gateway.hosts import WebGateway
from dwcloud.protocol.mediation.attributes import MAX_RELAY_URLS, RELAY_URL
from dwcloud.protocol.mediation.parameters import ConnectionParameters, KeepAlive
from dwcloud.protocol.names import parse_guid
from dwcloud.protocol.stun.behaviour import BehaviourServer

__all__ = ["Options", "makeService"]

_NONE = "none"
_EXAMPLES = """
Examples:
  with all defaults
      twistd -n mediator
  with a relay elsewhere
      twistd -n mediator --relay https://relay.example.org
  for networks that let nothing but web pages through
      twistd -n mediator --listen 'tcp:3345:interface=\\:\\:' \\
          --listen 'tcp:80:interface=\\:\\:' \\
          --listen ssl:443:privateKey=key.pem:certKey=chain.pem
  with a second address, by which NATs are explored
      twistd -n mediator --udp 3345:interface=192.0.2.1 --udp-other 192.0.2.2:3346
  with accounts, so that only those connect to a system who have a role on it
      twistd -n mediator --accounts /var/lib/dwcloud
  for slow networks
      twistd -n mediator --parameter ack_timeout=5 --parameter relay_grace=1
"""
_RECONNECT_DELAY = "reconnect_delay"
_REGISTRATION = ("open", "invited", "closed")
_KEEP_ALIVE_PREFIX = "keep_alive_"


class Options(MetricsOptions, LogOptions):
    """Options of ``twistd mediator``."""

    synopsis = "[options]"
    longdesc = (
        "Introduces servers and clients to each other that are behind NATs. Servers "
        "keep a TCP connection to it; clients ask it over UDP, and over TCP where UDP "
        "does not get through. Without any option it listens on TCP and UDP port "
        f"{DEFAULT_PORT} of all addresses, and announces a relay on the same host at "
        "port 3349. Any STUN client can test it: it answers Binding requests on both "
        "ports."
    )

    reactor: Any = None

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["https"] = []
        self["udp"] = []
        self["udp-other"] = None
        self["relay"] = []
        self["parameters"] = {}
        self["systems"] = []
        self["accounts"] = None
        self["database"] = None
        self["registration"] = None
        self["web-gateway"] = []

    def getUsage(self, width: int | None = None) -> str:
        """Return the help, with examples at the end (called by twistd)."""
        return str(super().getUsage(width)) + _EXAMPLES

    def opt_listen(self, endpoint: str) -> None:
        """Serve TCP on this endpoint, such as tcp:3345 or
        tcp:3345:interface=192.0.2.1; it carries STUN, and HTTP for tunnels. Repeatable;
        'none' for no such socket. [default: port 3345 of all addresses]"""
        self["listen"].append(endpoint)

    def opt_udp(self, port: str) -> None:
        """Serve UDP on PORT, or on PORT:interface=ADDRESS. Repeatable; 'none' for no
        such socket, with which no hole is ever punched. [default: port 3345 of all
        addresses]"""
        self["udp"].append(port)

    def opt_udp_other(self, address: str) -> None:
        """A second IP address of this machine and another UDP port, such as
        192.0.2.2:3346. With it servers and clients find out how their NATs behave
        (RFC 5780), which makes more direct connections. Needs
        --udp PORT:interface=ADDRESS."""
        self["udp-other"] = address

    def opt_https(self, endpoint: str) -> None:
        """Serve HTTP alone on this endpoint, such as
        ssl:443:privateKey=key.pem:certKey=chain.pem; it carries tunnels as --listen
        does. Repeatable."""
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

    def opt_accounts(self, directory: str) -> None:
        """Keep accounts, with keys and a database in this directory, which is made if
        it is not there. Servers may then register only if an account owns their
        system, and clients connect only with a role on it. HTTPS is served on the TCP
        sockets of --listen, too, with a portal for browsers."""
        self["accounts"] = Path(directory).expanduser().absolute()

    def opt_database(self, url: str) -> None:
        """Keep accounts in this database, such as postgresql://user@host/name,
        instead of a file in the directory of --accounts."""
        self["database"] = url

    def opt_registration(self, who: str) -> None:
        """Who may make an account: open for everybody, invited for those who are
        invited to a system, closed for nobody. [default: open]"""
        if who not in _REGISTRATION:
            raise usage.UsageError(
                f"--registration {who}: expected {', '.join(_REGISTRATION)}"
            )
        self["registration"] = who

    def opt_web_gateway(self, text: str) -> None:
        """Send browsers that may see a system to the relay of this domain, such as
        relay.example.org or relay.example.org:8443, which is started with
        --web-domain. Repeatable. Needs --accounts."""
        try:
            self["web-gateway"].append(WebGateway.parse(text))
        except ValueError as error:
            raise usage.UsageError(f"--web-gateway: {error}") from None

    def opt_version(self) -> NoReturn:
        """Print the version of dwcloud and exit."""
        print(f"dwcloud {version('dwcloud')}")
        sys.exit(0)

    def postOptions(self) -> None:
        """Check everything, so that mistakes are told before anything starts."""
        default = on_all_addresses(DEFAULT_PORT)
        self["listen"] = _given("--listen", self["listen"], f"tcp:{default}")
        self["udp"] = _given("--udp", self["udp"], default)
        self["relay"] = _given("--relay", self["relay"], DEFAULT_RELAY_URL)
        self["datagrams"] = [_udp_socket(text) for text in self["udp"]]
        if self["udp-other"] is not None:
            first, *more = self["datagrams"] or [None]
            self["datagrams"] = [_with_other(first, self["udp-other"]), *more]
        for option in ("database", "registration", "web-gateway"):
            if self[option] and self["accounts"] is None:
                raise usage.UsageError(
                    f"--{option} concerns accounts, which there are none of: add "
                    "--accounts DIRECTORY"
                )
        reactor = self.reactor or _global_reactor()
        self["streams"] = self.streams(reactor)
        if not (self["streams"] or self["datagrams"]):
            raise usage.UsageError("there is no socket left to listen on")
        self["configuration"] = MediatorConfiguration(
            relay_urls=_relay_urls(self["relay"]),
            policy=_policy(self["systems"]),
            metrics_readers=self.metrics_readers,
            **_parameters(self["parameters"]),
        )

    def streams(self, reactor: Any) -> list[StreamSocket]:
        """Return the TCP sockets."""
        return [
            StreamSocket(text, _endpoint(reactor, option, text), kind)
            for option, kind in (("listen", "tcp"), ("https", "https"))
            for text in self[option]
        ]


def _parameter_units() -> dict[str, str]:
    """The unit of each parameter."""
    units = {f.name: f.metadata["unit"] for f in attrs.fields(ConnectionParameters)}
    for field in attrs.fields(KeepAlive):
        unit = "count" if field.name == "misses" else "s"
        units[_KEEP_ALIVE_PREFIX + field.name] = unit
    return {**units, _RECONNECT_DELAY: "s"}


def _names(unit: str) -> str:
    """List the parameters of a unit, for the help."""
    return ", ".join(name for name, of in _parameter_units().items() if of == unit)


unfold_help(Options, durations=_names("s"), counts=_names("count"))


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


def _with_other(socket: UDPSocket | None, text: str) -> UDPSocket:
    """Make a socket one of four that discover NAT behaviour."""
    if (
        socket is None
        or not (socket.interface and socket.port)
        or ip_address(socket.interface).is_unspecified
    ):
        raise usage.UsageError(
            "--udp-other needs a first socket with an address of its own, such as "
            "--udp 3345:interface=192.0.2.1"
        )
    primary = Address(socket.interface, socket.port)
    try:
        other = parse_address(text, default_port=socket.port + 1)
        return attrs.evolve(socket, discovery=BehaviourServer(primary, other))
    except ValueError as error:
        raise usage.UsageError(f"--udp-other {text}: {error}") from None
    except LocalProtocolError:
        raise usage.UsageError(
            f"--udp-other {text}: expected another address and another port than "
            f"{primary}, of the same family"
        ) from None


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
    units = _parameter_units()
    changed: dict[str, Any] = {}
    connection: dict[str, str] = {}
    result: dict[str, Any] = {}
    for name, text in settings.items():
        if name not in units:
            raise usage.UsageError(
                f"--parameter {name!r} is not a parameter; there are: "
                + ", ".join(sorted(units))
            )
        if name == _RECONNECT_DELAY:
            result[name] = _number(name, text, float, 0.1, 600)
        elif name.startswith(_KEEP_ALIVE_PREFIX):
            field = name.removeprefix(_KEEP_ALIVE_PREFIX)
            kind, most = (int, 100) if units[name] == "count" else (float, 600)
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

    def __init__(self, options: Options, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._options = options

    def setServiceParent(self, parent: Any) -> None:
        """Become the program's service; the log begins then."""
        use_log_format(self._options, parent)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Open all sockets, or exit."""
        try:
            super().privilegedStartService()
        except (CannotListenError, OverflowError) as error:
            exit_twistd(
                self._options,
                f"mediator: {error} Choose other sockets by --listen and --udp.",
            )

    def startService(self) -> None:
        """Open what else there is, or exit."""
        try:
            super().startService()
        except ConfigurationError as error:
            exit_twistd(self._options, f"mediator: {error}")


def makeService(
    options: Options,
    reactor: Any = None,
    pages: Callable[[Routes], None] | None = None,
) -> IService:
    """Make the service.

    :param reactor: the reactor to run on; twistd's by default.
    :param pages: adds the pages for people with accounts, where there are any.
    """
    streams = options["streams"] if reactor is None else options.streams(reactor)
    reactor = reactor or options.reactor or _global_reactor()
    named: dict[str, Any] = {}
    if options["accounts"] is not None:
        # Late: a mediator without accounts does without what they need.
        from dwcloud.mediator.account_keeping import with_accounts

        of_twistd = getattr(options, "parent", None) or {}
        owner = (of_twistd.get("uid"), of_twistd.get("gid"))
        try:
            named = with_accounts(
                reactor,
                options["configuration"],
                options["accounts"],
                database=options["database"],
                registration=options["registration"] or _REGISTRATION[0],
                gateways=tuple(options["web-gateway"]),
                owner=cast(Any, tuple(-1 if i is None else i for i in owner)),
            )
        except ConfigurationError as error:
            raise usage.UsageError(str(error)) from error
        named["pages"] = pages
    service: IService = _TwistdMediator(
        options,
        reactor,
        options["configuration"],
        streams,
        options["datagrams"],
        **named,
    )
    return service
