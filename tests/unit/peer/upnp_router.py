"""What a UPnP gateway says, and a simulated one."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from twisted.internet.protocol import DatagramProtocol
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from dwcloud.protocol.port_mapping import ssdp
from dwcloud.protocol.port_mapping.xml_reading import read_xml
from dwcloud.testing import Host

__all__ = ["UPnPRouter", "description", "envelope", "fault"]


def description(*services: tuple[str, str]) -> bytes:
    """A device that has these services: type and control URL."""
    listed = "".join(
        f"<service><serviceType>{kind}</serviceType>"
        f"<controlURL>{escape(url)}</controlURL></service>"
        for kind, url in services
    )
    return (
        '<?xml version="1.0"?><root><device><deviceList><device><deviceList><device>'
        f"<serviceList>{listed}</serviceList></device></deviceList></device>"
        "</deviceList></device></root>"
    ).encode()


def _body(inside: str) -> bytes:
    return (
        '<?xml version="1.0"?><s:Envelope '
        'xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">'
        f"<s:Body>{inside}</s:Body></s:Envelope>"
    ).encode()


def envelope(action: str, values: dict[str, str]) -> bytes:
    """The answer to an action."""
    inside = "".join(f"<{n}>{escape(v)}</{n}>" for n, v in values.items())
    return _body(f'<u:{action}Response xmlns:u="u">{inside}</u:{action}Response>')


def fault(code: int, words: str) -> bytes:
    """The refusal of an action."""
    return _body(
        "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring>"
        f"<detail><UPnPError><errorCode>{code}</errorCode>"
        f"<errorDescription>{escape(words)}</errorDescription></UPnPError></detail>"
        "</s:Fault>"
    )


class UPnPRouter:
    """A gateway at a simulated host.

    :ivar mappings: protocol and external port, to internal port and lease.
    :ivar taken: external ports that belong to another machine.
    :ivar permanent: whether it knows no leases.
    :ivar external: its address outside.
    """

    SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:"

    def __init__(self, host: Host, version: int = 1) -> None:
        self.mappings: dict[tuple[str, int], tuple[int, int]] = {}
        self.taken: set[int] = set()
        self.permanent = False
        self.external = "198.51.100.1"
        self.location = f"http://{host.address}:5000/root.xml"
        self._version = version
        self._host = host
        root = Resource()
        document = description((f"{self.SERVICE}{version}", "/ctl"))
        root.putChild(b"root.xml", Data(document, "text/xml"))
        root.putChild(b"ctl", _Control(self))
        host.reactor.listenTCP(5000, Site(root, reactor=host.reactor))
        host.reactor.listenMulticast(
            ssdp.PORT, _Discovery(self, host), listenMultiple=True
        )

    def answer(self, name: str, values: dict[str, str]) -> bytes:
        """Do what an action wants."""
        if name == "GetExternalIPAddress":
            return envelope(name, {"NewExternalIPAddress": self.external})
        port = int(values["NewExternalPort"])
        key = (values["NewProtocol"], port)
        if name == "DeletePortMapping":
            self.mappings.pop(key)
            return envelope(name, {})
        lease = int(values["NewLeaseDuration"])
        if self.permanent and lease:
            return fault(725, "OnlyPermanentLeasesSupported")
        if port in self.taken:
            if name == "AddPortMapping":
                return fault(718, "ConflictInMappingEntry")
            key = (key[0], port + 1)
        self.mappings[key] = (int(values["NewInternalPort"]), lease)
        return envelope(name, {"NewReservedPort": str(key[1])})


class _Control(Resource):
    isLeaf = True

    def __init__(self, router: UPnPRouter) -> None:
        super().__init__()
        self._router = router

    def render_POST(self, request: Any) -> bytes:
        """Take an action."""
        body = read_xml(request.content.read()).find("Body")
        assert body is not None
        (action,) = body.children
        values = {child.name: child.text for child in action.children}
        answer = self._router.answer(action.name, values)
        if b"Fault" in answer:
            request.setResponseCode(500)
        request.setHeader(b"content-type", b"text/xml")
        return answer


class _Discovery(DatagramProtocol):
    def __init__(self, router: UPnPRouter, host: Host) -> None:
        self._router = router
        self._host = host

    def startProtocol(self) -> None:
        transport: Any = self.transport
        transport.joinGroup(ssdp.GROUP, self._host.address)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if b"InternetGatewayDevice:1" not in datagram:
            return
        transport: Any = self.transport
        transport.write(
            b"HTTP/1.1 200 OK\r\n"
            b"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
            b"LOCATION: %b\r\n\r\n" % self._router.location.encode(),
            addr,
        )
