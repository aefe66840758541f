"""Looking for Internet gateways by SSDP (UPnP Device Architecture 1.1, section 1.3)."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import attrs

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError

__all__ = [
    "GROUP",
    "PORT",
    "SEARCHES",
    "DeviceLocation",
    "http_location",
    "read_answer",
]

GROUP, PORT = "239.255.255.250", 1900
MAX_ANSWER = 2048
"""Bytes of an answer."""

_TARGETS = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
)

SEARCHES = tuple(
    (
        f"M-SEARCH * HTTP/1.1\r\nHOST: {GROUP}:{PORT}\r\n"
        f'MAN: "ssdp:discover"\r\nMX: 1\r\nST: {target}\r\n\r\n'
    ).encode("ascii")
    for target in _TARGETS
)
"""The datagrams that ask for gateways of version 2 and 1 of the standard."""


@attrs.frozen
class DeviceLocation:
    """Where something is to be fetched by HTTP.

    :ivar address: of the device.
    :ivar target: path and query.
    """

    address: Address
    target: str


def http_location(url: str, base: DeviceLocation | None = None) -> DeviceLocation:
    """Read an absolute URL with an IP address, or one relative to ``base``.

    :raises RemoteProtocolError: if it is none, is not HTTP, has a user, or leads to
        another host than ``base``: a device answers for itself only.
    """
    if any(c <= " " or c >= "\x7f" for c in url):
        raise RemoteProtocolError(f"{url!r} is no URL")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise RemoteProtocolError(f"{url!r} is no URL") from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if base is not None and not parts.scheme and not parts.netloc:
        if not target.startswith("/"):
            target = base.target.partition("?")[0].rpartition("/")[0] + "/" + target
        return DeviceLocation(base.address, target)
    if parts.scheme.lower() != "http" or not host or "@" in parts.netloc or port == 0:
        raise RemoteProtocolError(f"{url!r} is no URL of a device")
    try:
        address = Address(host, 80 if port is None else port)
        ipaddress.ip_address(host)
    except ValueError:
        raise RemoteProtocolError(f"{url!r} names no IP address") from None
    if base is not None and address.host != base.address.host:
        raise RemoteProtocolError(f"{url!r} is not at {base.address.host}")
    return DeviceLocation(address, target)


def read_answer(datagram: bytes) -> DeviceLocation:
    """Return where the device that answered describes itself.

    :raises RemoteProtocolError: if it is no answer of an Internet gateway.
    """
    if len(datagram) > MAX_ANSWER:
        raise RemoteProtocolError(f"{len(datagram)} bytes are too many")
    lines = datagram.decode("latin-1").split("\r\n")
    status = lines[0].split(" ")
    if len(status) < 2 or not status[0].startswith("HTTP/1.") or status[1] != "200":
        raise RemoteProtocolError("not an answer of SSDP")
    fields = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    if ":InternetGatewayDevice:" not in fields.get("st", ""):
        raise RemoteProtocolError("not an Internet gateway")
    return http_location(fields.get("location", ""))
