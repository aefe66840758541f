"""Endpoint strings with the prefix ``dwcloud``.

``dwcloud:PEER[:service=NAME][:mediator=HOST\\:PORT][:path=auto|lan|tcp|udp|relay]``
connects, ``dwcloud:identity=DIR[:service=NAME][:mediator=HOST\\:PORT]`` publishes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from zope.interface import implementer

from dwcloud.errors import ConfigurationError
from dwcloud.net.endpoint_strings import EndpointArguments
from dwcloud.net.identity import default_identity_directory
from dwcloud.peer.client import PATHS, ConnectOptions
from dwcloud.peer.endpoints import CloudClientEndpoint, CloudServerEndpoint
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.protocol.names import PeerName

__all__ = ["CloudClientParser", "CloudServerParser"]

CLIENT_FORM = (
    "dwcloud:PEER[:service=NAME][:mediator=HOST\\:PORT]"
    f"[:path={'|'.join(PATHS)}][:prefer=udp|tcp][:timeout=SECONDS]"
    "[:interface=ADDRESS][:lan=no][:tls=no]"
)
SERVER_FORM = (
    "dwcloud:identity=DIR[:service=NAME][:mediator=HOST\\:PORT]"
    "[:interface=ADDRESS][:lan=no][:tls=no]"
)
DEFAULT_SERVICE = "default"


def _mediator(given: EndpointArguments) -> MediatorAddress | None:
    text = given.text("mediator") or os.environ.get("DWCLOUD_MEDIATOR", "")
    try:
        return MediatorAddress.parse(text) if text else None
    except ConfigurationError as e:
        raise given.error(str(e)) from None


@implementer(IStreamClientEndpointStringParserWithReactor)
class CloudClientParser:
    """Reads ``dwcloud:`` client endpoint strings.

    :ivar prefix: the first word of these strings.
    """

    prefix = "dwcloud"

    def parseStreamClient(
        self, reactor: Any, *args: Any, **kwargs: Any
    ) -> IStreamClientEndpoint:
        """Return the endpoint.

        :raises ValueError: the arguments are wrong; the message names the form.
        """
        given = EndpointArguments(CLIENT_FORM, ("peer",), args, kwargs)
        try:
            peer = PeerName.parse(given.text("peer"))
            options = ConnectOptions(
                path=given.text("path") or "auto",
                prefer=given.text("prefer") or None,
                timeout=float(given.text("timeout") or "20"),
                tls=given.yes("tls", "yes"),
            )
        except ValueError as e:
            raise given.error(str(e)) from None
        endpoint = CloudClientEndpoint(
            reactor,
            peer,
            given.text("service"),
            _mediator(given),
            options,
            interface=given.address("interface"),
            lan=given.yes("lan", "yes"),
        )
        given.finish()
        return endpoint


@implementer(IStreamServerEndpointStringParser)
class CloudServerParser:
    """Reads ``dwcloud:`` server endpoint strings.

    :ivar prefix: the first word of these strings.
    """

    prefix = "dwcloud"

    def parseStreamServer(
        self, reactor: Any, *args: Any, **kwargs: Any
    ) -> IStreamServerEndpoint:
        """Return the endpoint.

        :raises ValueError: the arguments are wrong; the message names the form.
        """
        given = EndpointArguments(SERVER_FORM, (), args, kwargs)
        directory = given.text("identity")
        endpoint = CloudServerEndpoint(
            reactor,
            Path(directory) if directory else default_identity_directory(),
            given.text("service") or DEFAULT_SERVICE,
            _mediator(given),
            interface=given.address("interface"),
            lan=given.yes("lan", "yes"),
            tls=given.yes("tls", "yes"),
        )
        given.finish()
        return endpoint
