"""Endpoint strings with the prefix ``udt``.

``udt:HOST:PORT[:localPort=N][:bindAddress=A][:rendezvous=yes]`` connects,
``udt:PORT[:interface=A][:backlog=N]`` listens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from zope.interface import implementer

from dwcloud.errors import ConfigurationError
from dwcloud.net.udt_endpoints import UDTClientEndpoint, UDTServerEndpoint

__all__ = ["UDTClientParser", "UDTServerParser"]

CLIENT_FORM = "udt:HOST:PORT[:localPort=N][:bindAddress=A][:rendezvous=yes]"
SERVER_FORM = "udt:PORT[:interface=A][:backlog=N]"

_YES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class _Arguments:
    """The arguments of an endpoint string, taken one by one and checked.

    :param positional: the names of the positional arguments, all required; they may
        also be given by name, as with Twisted's own endpoints.
    """

    def __init__(
        self,
        form: str,
        positional: Sequence[str],
        args: Sequence[str],
        kwargs: dict[str, str],
    ) -> None:
        self._form = form
        self._left = dict(kwargs)
        if len(args) > len(positional):
            raise self.error(f"{args[len(positional)]!r} is too many")
        for name, value in zip(positional, args, strict=False):
            if name in self._left:
                raise self.error(f"{name} is given twice")
            self._left[name] = value
        for name in positional:
            if not self._left.get(name):
                raise self.error(f"{name.upper()} is missing")

    def error(self, what: str) -> ConfigurationError:
        """Return the exception for a wrong argument."""
        return ConfigurationError(
            f"not a UDT endpoint: {what}; the form is {self._form}"
        )

    def text(self, name: str, default: str = "") -> str:
        """Take an argument as it is."""
        return self._left.pop(name, default)

    def number(self, name: str, default: int, lowest: int, highest: int) -> int:
        """Take a decimal number within limits."""
        text = self._left.pop(name, None)
        if text is None:
            return default
        # The length first: int() of thousands of digits raises an error of its own.
        if len(text) <= 9 and text.isascii() and text.isdigit():
            value = int(text)
            if lowest <= value <= highest:
                return value
        raise self.error(f"{name}={text} is not a number from {lowest} to {highest}")

    def address(self, name: str) -> str:
        """Take a local IP address, or nothing."""
        text = self._left.pop(name, "")
        if text and not (isIPAddress(text) or isIPv6Address(text)):
            raise self.error(f"{name}={text} is not an IP address")
        return text

    def yes(self, name: str) -> bool:
        """Take a yes or no."""
        text = self._left.pop(name, "no")
        if text.lower() not in _YES:
            raise self.error(f"{name}={text} is neither yes nor no")
        return _YES[text.lower()]

    def finish(self) -> None:
        """Refuse what nobody took."""
        for name in self._left:
            raise self.error(f"{name} is not known")


@implementer(IStreamClientEndpointStringParserWithReactor)
class UDTClientParser:
    """Reads ``udt:`` client endpoint strings.

    :ivar prefix: the first word of these strings.
    """

    prefix = "udt"

    def parseStreamClient(
        self, reactor: Any, *args: Any, **kwargs: Any
    ) -> IStreamClientEndpoint:
        """Return the endpoint.

        :raises ValueError: the arguments are wrong; the message names the form.
        """
        given = _Arguments(CLIENT_FORM, ("host", "port"), args, kwargs)
        endpoint = UDTClientEndpoint(
            reactor,
            given.text("host"),
            given.number("port", 0, 1, 65535),
            local_port=given.number("localPort", 0, 0, 65535),
            bind_address=given.address("bindAddress"),
            rendezvous=given.yes("rendezvous"),
        )
        given.finish()
        return endpoint


@implementer(IStreamServerEndpointStringParser)
class UDTServerParser:
    """Reads ``udt:`` server endpoint strings.

    :ivar prefix: the first word of these strings.
    """

    prefix = "udt"

    def parseStreamServer(
        self, reactor: Any, *args: Any, **kwargs: Any
    ) -> IStreamServerEndpoint:
        """Return the endpoint.

        :raises ValueError: the arguments are wrong; the message names the form.
        """
        given = _Arguments(SERVER_FORM, ("port",), args, kwargs)
        endpoint = UDTServerEndpoint(
            reactor,
            given.number("port", 0, 0, 65535),
            interface=given.address("interface"),
            backlog=given.number("backlog", 50, 1, 100_000),
        )
        given.finish()
        return endpoint
