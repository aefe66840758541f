"""Endpoint strings with the prefix ``udt``.

``udt:HOST:PORT[:localPort=N][:bindAddress=A][:rendezvous=yes]`` connects,
``udt:PORT[:interface=A][:backlog=N]`` listens.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from zope.interface import implementer

from dwcloud.net.endpoint_strings import EndpointArguments
from dwcloud.net.udt_endpoints import UDTClientEndpoint, UDTServerEndpoint

__all__ = ["UDTClientParser", "UDTServerParser"]

CLIENT_FORM = "udt:HOST:PORT[:localPort=N][:bindAddress=A][:rendezvous=yes]"
SERVER_FORM = "udt:PORT[:interface=A][:backlog=N]"


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
        given = EndpointArguments(CLIENT_FORM, ("host", "port"), args, kwargs)
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
        given = EndpointArguments(SERVER_FORM, ("port",), args, kwargs)
        endpoint = UDTServerEndpoint(
            reactor,
            given.number("port", 0, 0, 65535),
            interface=given.address("interface"),
            backlog=given.number("backlog", 50, 1, 100_000),
        )
        given.finish()
        return endpoint
