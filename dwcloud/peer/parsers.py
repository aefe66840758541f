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
from dwcloud.peer.cloud_account import account_at
from dwcloud.peer.connect_options import PATHS, ConnectOptions
from dwcloud.peer.credentials import CredentialStore
from dwcloud.peer.endpoints import CloudClientEndpoint, CloudServerEndpoint
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.port_mappings import read_methods
from dwcloud.peer.system_names import SystemReference, read_reference

__all__ = ["CloudClientParser", "CloudServerParser"]

CLIENT_FORM = (
    "dwcloud:PEER[:service=NAME][:mediator=HOST\\:PORT]"
    f"[:path={'|'.join(PATHS)}][:prefer=udp|tcp][:timeout=SECONDS]"
    "[:interface=ADDRESS][:lan=no][:tls=no]"
)
SERVER_FORM = (
    "dwcloud:identity=DIR[:service=NAME][:mediator=HOST\\:PORT]"
    "[:interface=ADDRESS][:lan=no][:tls=no][:portMapping=no|pcp|nat-pmp|upnp]"
)
DEFAULT_SERVICE = "default"


def _mediator(given: EndpointArguments) -> MediatorAddress | None:
    text = given.text("mediator") or os.environ.get("DWCLOUD_MEDIATOR", "")
    try:
        return MediatorAddress.parse(text) if text else None
    except ConfigurationError as e:
        raise given.error(str(e)) from None


def _signed_in() -> MediatorAddress | None:
    """The cloud that this person is signed in to."""
    current = CredentialStore().current
    return None if current is None else MediatorAddress.parse(current)


def _port_mapping(given: EndpointArguments) -> tuple[str, ...]:
    try:
        return read_methods(given.text("portMapping") or "any")
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
            peer = read_reference(given.text("peer"))
            options = ConnectOptions(
                path=given.text("path") or "auto",
                prefer=given.text("prefer") or None,
                timeout=float(given.text("timeout") or "20"),
                tls=given.yes("tls", "yes"),
            )
        except ValueError as e:
            raise given.error(str(e)) from None
        mediator = _mediator(given)
        if mediator is None and isinstance(peer, SystemReference):
            mediator = _signed_in()
        interface = given.address("interface")
        account = None
        if mediator is not None:
            try:
                account = account_at(reactor, mediator, interface=interface)
            except ConfigurationError as e:
                raise given.error(str(e)) from None
        endpoint = CloudClientEndpoint(
            reactor,
            peer,
            given.text("service"),
            mediator,
            options,
            interface=interface,
            lan=given.yes("lan", "yes"),
            grants=account,
            account=account,
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
            port_mapping=_port_mapping(given),
        )
        given.finish()
        return endpoint
