"""``twistd relay``: options, and the service they describe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from inspect import cleandoc
from typing import Any

from twisted.application.service import MultiService
from twisted.python import usage

from dwcloud.errors import ConfigurationError
from dwcloud.net.dual_stack import on_all_addresses
from dwcloud.net.listening import Program, parse_endpoint
from dwcloud.net.log_lines import LogOptions
from dwcloud.net.next_signal import act_on_next_signal
from dwcloud.net.observation import MetricsOptions
from dwcloud.net.option_help import unfold_help
from dwcloud.net.signing import read_public_key
from dwcloud.protocol.names import parse_guid
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.relay.gateway.options import GatewayOptions
from dwcloud.relay.service import RelayService
from dwcloud.relay.workers import WorkersService
from dwcloud.relay.workmates import Workmates

__all__ = ["DEFAULT_PORT", "Options", "makeService", "make_relay"]

MAX_WORKERS = 64

DEFAULT_PORT = 3349

_LONGEST_DRAIN = 1e9


class Options(MetricsOptions, LogOptions, GatewayOptions):
    """Command line of ``twistd relay``."""

    synopsis = (
        "[--listen ENDPOINT]... [--public-url URL] [--allow-system GUID]... "
        "[--peer-relay URL]... [--cloud-key FILE] [--drain SECONDS] [--workers N] "
        "[--web-domain DOMAIN --web-endpoint ENDPOINT... --portal URL] "
        "[--metrics-from NETWORK]... [--log-format text|json]"
    )

    longdesc = cleandoc(
        f"""
        Joins connections of servers and clients that found no direct path to each
        other. Servers keep idle connections here, clients ask for one of them by the
        server's GUID, and the relay passes bytes between the two. It connects
        to nobody, except to ask a --peer-relay for a server, and cannot read what it
        passes on. Without any option it listens on TCP port {DEFAULT_PORT} of all
        addresses and serves every server that proves its GUID.

        Examples: `twistd -n relay` with all defaults;
        `twistd -n relay --listen tcp:80 --listen
        ssl:443:privateKey=key.pem:certKey=chain.pem` for networks that let nothing
        but web pages through. `curl http://HOST:3349/relay/statistics/` shows what it
        does.
        """
    )

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["public-url"] = ""
        self["allow-system"] = []
        self["peer-relay"] = []
        self["cloud-key"] = None
        self["drain"] = 0.0
        self["workers"] = 1
        self.arguments: list[str] = []

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the options; they are kept for the workers, who read them, too."""
        self.arguments = list(sys.argv[1:] if options is None else options)
        super().parseOptions(self.arguments)  # type: ignore[no-untyped-call]

    def opt_listen(self, description: str) -> None:
        """Listen on an endpoint such as tcp:3349:interface=192.0.2.1. Repeatable."""
        # Read here for the error only; listening needs the reactor of the service.
        try:
            parse_endpoint(None, description)
        except ConfigurationError as e:
            raise usage.UsageError(f"--listen: {e}") from e
        self["listen"].append(description)

    def opt_public_url(self, text: str) -> None:
        """Where clients reach this relay, such as https://relay.example.org."""
        try:
            self["public-url"] = str(ServiceURL.parse(text))
        except ValueError as e:
            raise usage.UsageError(f"--public-url: {e}") from e

    def opt_allow_system(self, text: str) -> None:
        """Serve servers of this system only, a GUID. Repeatable."""
        try:
            self["allow-system"].append(parse_guid(text))
        except ValueError as e:
            raise usage.UsageError(f"--allow-system: {e}") from e

    def opt_peer_relay(self, text: str) -> None:
        """Another relay, where clients find servers that are not here. Repeatable."""
        try:
            self["peer-relay"].append(ServiceURL.parse(text))
        except ValueError as e:
            raise usage.UsageError(f"--peer-relay: {e}") from e

    def opt_cloud_key(self, text: str) -> None:
        """Join only clients that the cloud of this public key lets in, given as 44
        characters or as a file: cloud.pub in the directory of twistd mediator
        --accounts."""
        try:
            self["cloud-key"] = read_public_key(text)
        except ConfigurationError as e:
            raise usage.UsageError(f"--cloud-key: {e}") from e

    def opt_drain(self, text: str) -> None:
        """Seconds to wait for running tunnels when told to stop, taking no new ones."""
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < _LONGEST_DRAIN:
            raise usage.UsageError(
                f"--drain: {text!r} is not a time in seconds, such as 600"
            )
        self["drain"] = seconds

    def opt_workers(self, text: str) -> None:
        """Processes that share the ports and the work, 1 to 64."""
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_WORKERS):
            raise usage.UsageError(
                f"--workers: {text!r} is not a number of processes from 1 to "
                f"{MAX_WORKERS}, such as 4"
            )
        self["workers"] = int(text)

    def opt_version(self) -> None:
        """Print the version of dwcloud and exit."""
        print(f"dwcloud {version('dwcloud')}")
        raise SystemExit(0)

    def parseArgs(self, *args: str) -> None:
        """There are options only."""
        if args:
            raise usage.UsageError(
                f"{args[0]!r} is not an option: to listen on a port, say --listen "
                f"tcp:{DEFAULT_PORT}"
            )

    def postOptions(self) -> None:
        """Fill in what was not said, and see whether all fits together."""
        self["listen"] = self["listen"] or [f"tcp:{on_all_addresses(DEFAULT_PORT)}"]
        self["gateway"] = self.gateway_settings()


unfold_help(Options)


def makeService(options: Options, reactor: Any = None) -> MultiService:
    """Make the relay that the options describe.

    :param reactor: the reactor to use instead of the global one.
    """
    if reactor is None:
        from twisted.internet import reactor
    program = Program("relay", options)
    relay: WorkersService | RelayService
    if options["workers"] > 1:
        relay = WorkersService(
            reactor,
            options["listen"],
            workers=options["workers"],
            arguments=options.arguments,
            drain=options["drain"],
            onDraining=lambda: act_on_next_signal(reactor, relay.end_drain),
        )
    else:
        relay = make_relay(
            options,
            reactor,
            options["listen"],
            onDraining=lambda: act_on_next_signal(reactor, relay.end_drain),
        )
    relay.setServiceParent(program)  # type: ignore[no-untyped-call]
    return program


def make_relay(
    options: Options,
    reactor: Any,
    listen: Sequence[str],
    *,
    onDraining: Callable[[], None] = lambda: None,
    workmates: Workmates | None = None,
) -> RelayService:
    """Make the relay of one process.

    :param listen: endpoint strings of the listening sockets.
    :param workmates: the other processes, if there are any.
    """
    return RelayService(
        reactor,
        listen,
        public_url=options["public-url"],
        allowed_systems=options["allow-system"],
        peer_relays=options["peer-relay"],
        drain=options["drain"],
        onDraining=onDraining,
        workmates=workmates,
        metrics_readers=options.metrics_readers,
        cloud_key=options["cloud-key"],
        gateway=options["gateway"],
    )
