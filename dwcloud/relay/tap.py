"""``twistd relay``: options, and the service they describe."""

from __future__ import annotations

from importlib.metadata import version
from inspect import cleandoc
from typing import Any
from uuid import UUID

from twisted.application.service import MultiService
from twisted.python import usage

from dwcloud.errors import ConfigurationError
from dwcloud.net.listening import Program, parse_endpoint
from dwcloud.net.next_signal import act_on_next_signal
from dwcloud.protocol.names import parse_guid
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.relay.service import RelayService

__all__ = ["DEFAULT_LISTEN", "Options", "makeService"]

DEFAULT_LISTEN = "tcp:3349"

_LONGEST_DRAIN = 1e9


class Options(usage.Options):
    """Command line of ``twistd relay``."""

    synopsis = (
        "[--listen ENDPOINT]... [--public-url URL] [--allow-system GUID]... "
        "[--drain SECONDS]"
    )

    longdesc = cleandoc(
        f"""
        Joins connections of servers and clients that found no direct path to each
        other. Servers keep idle connections here, clients ask for one of them by the
        server's GUID, and the relay passes bytes between the two. It never connects
        to anybody and cannot read what it passes on. Without any option it listens
        on {DEFAULT_LISTEN} and serves every server that proves its GUID.

        Examples: `twistd -n relay` with all defaults;
        `twistd -n relay --listen tcp:80 --listen
        ssl:443:privateKey=key.pem:certKey=chain.pem` for networks that let nothing
        but web pages through. `curl http://HOST:3349/relay/statistics/` shows what it
        does.
        """
    )

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["listen"] = []
        self["public-url"] = ""
        self["allow-system"] = []
        self["drain"] = 0.0

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

    def opt_version(self) -> None:
        """Print the version of dwcloud and exit."""
        print(f"dwcloud {version('dwcloud')}")
        raise SystemExit(0)

    def parseArgs(self, *args: str) -> None:
        """There are options only."""
        if args:
            raise usage.UsageError(
                f"{args[0]!r} is not an option: to listen on a port, say --listen "
                f"{DEFAULT_LISTEN}"
            )

    def postOptions(self) -> None:
        """Fill in what was not said."""
        self["listen"] = self["listen"] or [DEFAULT_LISTEN]


def makeService(options: Options, reactor: Any = None) -> MultiService:
    """Make the relay that the options describe.

    :param reactor: the reactor to use instead of the global one.
    """
    if reactor is None:
        from twisted.internet import reactor
    allowed: list[UUID] = options["allow-system"]
    program = Program("relay", options)
    relay = RelayService(
        reactor,
        options["listen"],
        public_url=options["public-url"],
        allowed_systems=allowed,
        drain=options["drain"],
        onDraining=lambda: act_on_next_signal(reactor, relay.end_drain),
    )
    relay.setServiceParent(program)  # type: ignore[no-untyped-call]
    return program
