"""UPnP Internet gateways: their description, and requests to them by SOAP."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.port_mapping.mappings import MappedPort
from dwcloud.protocol.port_mapping.ssdp import DeviceLocation, http_location
from dwcloud.protocol.port_mapping.xml_reading import Element, read_xml

__all__ = [
    "CONFLICT",
    "ONLY_PERMANENT_LEASES",
    "Action",
    "ActionRefused",
    "ConnectionService",
    "add_any_mapping",
    "add_mapping",
    "delete_mapping",
    "external_address",
    "read_answer",
    "read_description",
    "read_external_address",
    "read_reserved_port",
]

CONFLICT = 718
"""The error code of a router whose port is mapped to another machine."""
ONLY_PERMANENT_LEASES = 725
"""The error code of a router that cannot let mappings end by themselves."""

_SERVICES = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
_DESCRIPTION = "dwcloud"
_ENVELOPE = (
    '<?xml version="1.0"?>\r\n'
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
    's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
    '<u:{name} xmlns:u="{service}">{arguments}</u:{name}>'
    "</s:Body></s:Envelope>\r\n"
)


@attrs.frozen
class ConnectionService:
    """The service of a gateway that maps ports.

    :ivar type: its URN.
    :ivar location: where requests go.
    """

    type: str
    location: DeviceLocation

    @property
    def reserves_ports(self) -> bool:
        """Whether it chooses a free port by itself (version 2)."""
        return self.type == _SERVICES[0]


class ActionRefused(RemoteProtocolError):
    """A gateway refused an action; the code is that of UPnP."""


def read_description(document: bytes, base: DeviceLocation) -> list[ConnectionService]:
    """Return the services that map ports, the best first.

    :param base: where the document was fetched from.
    :raises RemoteProtocolError: if it is no description, or has no such service.
    """
    root = read_xml(document)
    if given := root.child_text("URLBase"):
        base = http_location(given, base)
    found = []
    for service in root.all("service"):
        kind = service.child_text("serviceType")
        if kind in _SERVICES:
            location = http_location(service.child_text("controlURL"), base)
            found.append(ConnectionService(kind, location))
    if not found:
        raise RemoteProtocolError("the device has no service that maps ports")
    return sorted(found, key=lambda service: _SERVICES.index(service.type))


@attrs.frozen
class Action:
    """A request to a service.

    :ivar arguments: by name, in the order of the standard.
    """

    service: ConnectionService
    name: str
    arguments: Mapping[str, str]

    @property
    def header(self) -> tuple[tuple[bytes, bytes], ...]:
        """The fields of the HTTP request."""
        action = f'"{self.service.type}#{self.name}"'
        return (
            (b"content-type", b'text/xml; charset="utf-8"'),
            (b"soapaction", action.encode("ascii")),
        )

    def encode(self) -> bytes:
        """The body of the HTTP request."""
        arguments = "".join(
            f"<{name}>{escape(value)}</{name}>"
            for name, value in self.arguments.items()
        )
        return _ENVELOPE.format(
            name=self.name, service=self.service.type, arguments=arguments
        ).encode("utf-8")


def _mapping_arguments(
    port: MappedPort, external_port: int, client: str, lifetime: int
) -> Iterator[tuple[str, str]]:
    yield "NewRemoteHost", ""
    yield "NewExternalPort", str(external_port)
    yield "NewProtocol", port.transport.name
    yield "NewInternalPort", str(port.port)
    yield "NewInternalClient", client
    yield "NewEnabled", "1"
    yield "NewPortMappingDescription", _DESCRIPTION
    yield "NewLeaseDuration", str(lifetime)


def add_mapping(
    service: ConnectionService,
    port: MappedPort,
    external_port: int,
    client: str,
    lifetime: int,
) -> Action:
    """Ask for a mapping at exactly this port.

    :param client: this machine's address.
    :param lifetime: seconds; 0 is without end.
    """
    arguments = dict(_mapping_arguments(port, external_port, client, lifetime))
    return Action(service, "AddPortMapping", arguments)


def add_any_mapping(
    service: ConnectionService,
    port: MappedPort,
    external_port: int,
    client: str,
    lifetime: int,
) -> Action:
    """Ask for a mapping at this port or, if it is taken, at any (version 2)."""
    arguments = dict(_mapping_arguments(port, external_port, client, lifetime))
    return Action(service, "AddAnyPortMapping", arguments)


def delete_mapping(
    service: ConnectionService, port: MappedPort, external_port: int
) -> Action:
    """Ask for the end of a mapping."""
    arguments = {
        "NewRemoteHost": "",
        "NewExternalPort": str(external_port),
        "NewProtocol": port.transport.name,
    }
    return Action(service, "DeletePortMapping", arguments)


def external_address(service: ConnectionService) -> Action:
    """Ask for the external address."""
    return Action(service, "GetExternalIPAddress", {})


def read_answer(action: Action, status: int, body: bytes) -> dict[str, str]:
    """Return the values that an action gave.

    :param status: of the HTTP answer.
    :raises ActionRefused: if the gateway refused it, with its code.
    :raises RemoteProtocolError: if it is no answer to the action.
    """
    root = _read_envelope(status, body)
    fault = root.find("Fault")
    if fault is not None:
        error = fault.find("UPnPError") or fault
        code = error.child_text("errorCode")
        number = int(code) if code.isascii() and code.isdigit() and len(code) < 6 else 0
        words = error.child_text("errorDescription") or fault.child_text("faultstring")
        shown = "".join(c for c in words[:100] if c.isprintable())
        raise ActionRefused(f"{action.name}: error {number} {shown}".rstrip(), number)
    answer = root.find(f"{action.name}Response")
    if answer is None or status != 200:
        raise RemoteProtocolError(f"HTTP status {status} instead of an answer")
    return {child.name: child.text for child in answer.children}


def _read_envelope(status: int, body: bytes) -> Element:
    if status not in (200, 500):
        raise RemoteProtocolError(f"HTTP status {status}")
    root = read_xml(body)
    if root.name != "Envelope":
        raise RemoteProtocolError("not a SOAP envelope")
    return root


def read_external_address(values: Mapping[str, str]) -> str:
    """Return the external address of the answer to that question.

    :raises RemoteProtocolError: if there is none: the gateway is not connected.
    """
    text = values.get("NewExternalIPAddress", "")
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        raise RemoteProtocolError(f"{text!r} is not an IP address") from None
    if address.is_unspecified:
        raise RemoteProtocolError("the router has no public address")
    return str(address)


def read_reserved_port(values: Mapping[str, str]) -> int:
    """Return the port of the answer to :func:`add_any_mapping`.

    :raises RemoteProtocolError: if it names none.
    """
    text = values.get("NewReservedPort", "")
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise RemoteProtocolError(f"{text!r} is not a port")
    number = int(text)
    if not 0 < number < 65536:
        raise RemoteProtocolError(f"{text!r} is not a port")
    return number
