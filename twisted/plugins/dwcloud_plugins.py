"""What Twisted finds of dwcloud: two services and the endpoint strings.

Twisted imports this file whenever any program asks for any plugin, so it imports
nothing of dwcloud: services and parsers are named here and loaded when used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import ServiceMaker
from twisted.internet.interfaces import (
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from twisted.python.reflect import namedAny
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint

__all__ = [
    "cloud_client_parser",
    "cloud_server_parser",
    "mediator",
    "relay",
    "udt_client_parser",
    "udt_server_parser",
]


class _LazyParser:
    """The name of an endpoint parser, and where its class is.

    :ivar prefix: the first word of the endpoint strings that it reads.
    """

    def __init__(self, prefix: str, parser: str) -> None:
        self.prefix = prefix
        self._parser = parser

    def _load(self) -> Any:
        return namedAny(self._parser)()


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class _LazyClientParser(_LazyParser):
    """A parser of client endpoint strings."""

    def parseStreamClient(
        self, reactor: Any, *args: str, **kwargs: str
    ) -> IStreamClientEndpoint:
        return self._load().parseStreamClient(reactor, *args, **kwargs)


@implementer(IPlugin, IStreamServerEndpointStringParser)
class _LazyServerParser(_LazyParser):
    """A parser of server endpoint strings."""

    def parseStreamServer(
        self, reactor: Any, *args: str, **kwargs: str
    ) -> IStreamServerEndpoint:
        return self._load().parseStreamServer(reactor, *args, **kwargs)


class _LazyService(ServiceMaker):
    """The name of a service, and where its options are."""

    @property
    def options(self) -> Any:
        """The class of the options; twistd asks for it when the service is named."""
        from dwcloud.loading import loading

        with loading():
            return super().options


mediator = _LazyService(
    "dwcloud mediator",
    "dwcloud.web.tap",
    "Introduce servers and clients that are behind NATs to each other",
    "mediator",
)

relay = _LazyService(
    "dwcloud relay",
    "dwcloud.relay.tap",
    "Join connections of servers and clients that found no direct path",
    "relay",
)

udt_client_parser = _LazyClientParser("udt", "dwcloud.net.parsers.UDTClientParser")
udt_server_parser = _LazyServerParser("udt", "dwcloud.net.parsers.UDTServerParser")
cloud_client_parser = _LazyClientParser(
    "dwcloud", "dwcloud.peer.parsers.CloudClientParser"
)
cloud_server_parser = _LazyServerParser(
    "dwcloud", "dwcloud.peer.parsers.CloudServerParser"
)
