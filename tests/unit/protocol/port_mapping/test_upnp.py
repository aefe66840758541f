"""What UPnP gateways send: SSDP, descriptions and SOAP."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.port_mapping import gateway_device, ssdp
from dwcloud.protocol.port_mapping.gateway_device import (
    ActionRefused,
    ConnectionService,
)
from dwcloud.protocol.port_mapping.mappings import MappedPort, Transport
from dwcloud.protocol.port_mapping.ssdp import DeviceLocation, http_location
from dwcloud.protocol.port_mapping.xml_reading import MAX_DOCUMENT, read_xml
from tests.unit.peer.upnp_router import description, envelope, fault

BASE = DeviceLocation(Address("192.168.1.1", 5000), "/igd/root.xml")
IP1, IP2, PPP = (
    f"urn:schemas-upnp-org:service:{name}"
    for name in ("WANIPConnection:1", "WANIPConnection:2", "WANPPPConnection:1")
)
SERVICE = ConnectionService(IP1, DeviceLocation(BASE.address, "/ctl"))
PORT = MappedPort(Transport.UDP, 4001)
XML = st.recursive(
    st.text("ab<>&;'\"é ", max_size=8).map(lambda text: text.encode()),
    lambda inner: st.tuples(
        st.sampled_from([b"service", b"controlURL", b"s:Body", b"Fault", b"x"]), inner
    ).map(lambda pair: b"<%b>%b</%b>" % (pair[0], pair[1], pair[0])),
    max_leaves=6,
)


class XMLTests(SynchronousTestCase):
    """Documents of strangers."""

    def test_tree(self) -> None:
        """Names lose their prefix, texts their margin."""
        root = read_xml(b"<s:a xmlns:s='u'><b> x </b><c><b>y</b></c></s:a>\n\0\0")
        self.assertEqual(root.name, "a")
        self.assertEqual([b.text for b in root.all("b")], ["x", "y"])
        self.assertEqual((root.child_text("b"), root.child_text("d")), ("x", ""))
        self.assertIsNone(root.find("d"))

    def test_bombs(self) -> None:
        """No document expands, reaches out, or is large."""
        entities = b"".join(
            b'<!ENTITY a%d "%b">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 9)
        )
        for document in (
            b'<!DOCTYPE a [<!ENTITY a0 "x">%b]><a>&a8;</a>' % entities,
            b'<!DOCTYPE a SYSTEM "http://192.0.2.1/a.dtd"><a/>',
            b"<a>" + b"x" * MAX_DOCUMENT + b"</a>",
            b"<a>" * 100 + b"</a>" * 100,
            b"<a>" + b"<b/>" * 5000 + b"</a>",
            b"<a>&undeclared;</a>",
            b"<a>",
            b"",
            b"<?xml version='1.0' encoding='nonsense'?><a/>",
        ):
            self.assertRaises(RemoteProtocolError, read_xml, document)

    @given(st.binary(max_size=200) | XML)
    def test_anything(self, document: bytes) -> None:
        """Any bytes are a tree or an error."""
        try:
            root = read_xml(document)
        except RemoteProtocolError:
            return
        self.assertTrue(root.name)


class LocationTests(SynchronousTestCase):
    """Where a device says that something is."""

    def test_absolute(self) -> None:
        """A URL with an IP address."""
        self.assertEqual(
            http_location("http://192.168.1.1:5000/a?b=c"),
            DeviceLocation(BASE.address, "/a?b=c"),
        )
        self.assertEqual(http_location("http://10.0.0.1").address.port, 80)

    def test_relative(self) -> None:
        """As in web pages."""
        for url, target in (("/ctl", "/ctl"), ("ctl?x", "/igd/ctl?x")):
            self.assertEqual(
                http_location(url, BASE), DeviceLocation(BASE.address, target)
            )

    def test_refused(self) -> None:
        """Nobody is sent elsewhere."""
        for url in (
            "",
            "ftp://192.168.1.1/",
            "https://192.168.1.1/",
            "http://router.example/",
            "http://192.168.1.1:0/",
            "http://192.168.1.1:99999/",
            "http://user@192.168.1.1/",
            "http://[::1/",
            "http://192.168.1.1/a b",
            "http://192.168.1.1/\r\nX: y",
        ):
            self.assertRaises(RemoteProtocolError, http_location, url)
        for url in ("http://192.168.1.2/ctl", "//192.168.1.2/ctl"):
            self.assertRaises(RemoteProtocolError, http_location, url, BASE)


class SSDPTests(SynchronousTestCase):
    """Answers to a search."""

    ANSWER = (
        b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\n"
        b"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
        b"location:http://192.168.1.1:5000/igd/root.xml\r\n\r\n"
    )

    def test_answer(self) -> None:
        """The location is what counts."""
        self.assertEqual(ssdp.read_answer(self.ANSWER), BASE)

    def test_search(self) -> None:
        """Both versions are looked for, in the form of the standard."""
        for number, search in zip((2, 1), ssdp.SEARCHES, strict=True):
            self.assertTrue(search.startswith(b"M-SEARCH * HTTP/1.1\r\n"))
            self.assertTrue(search.endswith(b"\r\n\r\n"))
            self.assertIn(b"InternetGatewayDevice:%d\r\n" % number, search)
            self.assertIn(b'MAN: "ssdp:discover"\r\n', search)

    @given(st.binary(max_size=300), st.integers(0, 200))
    def test_any_bytes(self, junk: bytes, at: int) -> None:
        """Anything is a location or an error."""
        for data in (junk, self.ANSWER[:at] + junk, self.ANSWER[:at] + self.ANSWER):
            try:
                ssdp.read_answer(data)
            except RemoteProtocolError:
                continue

    def test_refused(self) -> None:
        """Other devices, notices, errors and long answers do not count."""
        for data in (
            self.ANSWER.replace(b"InternetGatewayDevice", b"MediaServer"),
            self.ANSWER.replace(b"200 OK", b"404 No"),
            self.ANSWER.replace(b"HTTP/1.1 200 OK", b"NOTIFY * HTTP/1.1"),
            self.ANSWER.replace(b"location", b"elsewhere"),
            self.ANSWER + b"x" * 2048,
        ):
            self.assertRaises(RemoteProtocolError, ssdp.read_answer, data)


class DeviceTests(SynchronousTestCase):
    """Descriptions and actions."""

    def test_description(self) -> None:
        """The services are found at any depth, the best first."""
        document = description((PPP, "/ppp"), (IP1, "ip1"), (IP2, "/ip2"))
        found = gateway_device.read_description(document, BASE)
        self.assertEqual([s.type for s in found], [IP2, IP1, PPP])
        self.assertEqual(found[1].location.target, "/igd/ip1")
        self.assertTrue(found[0].reserves_ports)
        self.assertFalse(found[1].reserves_ports)

    def test_refused_descriptions(self) -> None:
        """A device without the service, or whose service is elsewhere."""
        for document in (
            description(("urn:x", "/x")),
            description((IP1, "http://192.0.2.1/")),
            description((IP1, "")).replace(b"<root>", b"<root><URLBase>x:</URLBase>"),
        ):
            self.assertRaises(
                RemoteProtocolError, gateway_device.read_description, document, BASE
            )

    def test_action(self) -> None:
        """The body is what the standard says, and well-formed."""
        action = gateway_device.add_mapping(SERVICE, PORT, 5000, "192.168.1.2", 3600)
        self.assertIn(
            (b"soapaction", f'"{IP1}#AddPortMapping"'.encode()), action.header
        )
        request = read_xml(action.encode()).find("AddPortMapping")
        assert request is not None
        self.assertEqual(
            [(child.name, child.text) for child in request.children],
            [
                ("NewRemoteHost", ""),
                ("NewExternalPort", "5000"),
                ("NewProtocol", "UDP"),
                ("NewInternalPort", "4001"),
                ("NewInternalClient", "192.168.1.2"),
                ("NewEnabled", "1"),
                ("NewPortMappingDescription", "dwcloud"),
                ("NewLeaseDuration", "3600"),
            ],
        )

    def test_answers(self) -> None:
        """Values are taken from the answer to the very action."""
        action = gateway_device.external_address(SERVICE)
        body = envelope("GetExternalIPAddress", {"NewExternalIPAddress": "192.0.2.1"})
        values = gateway_device.read_answer(action, 200, body)
        self.assertEqual(gateway_device.read_external_address(values), "192.0.2.1")
        other = gateway_device.delete_mapping(SERVICE, PORT, 5000)
        self.assertRaises(
            RemoteProtocolError, gateway_device.read_answer, other, 200, body
        )

    def test_faults(self) -> None:
        """A refusal has the code of UPnP and its words."""
        action = gateway_device.external_address(SERVICE)
        with self.assertRaises(ActionRefused) as caught:
            gateway_device.read_answer(action, 500, fault(718, "Conflict\x1f"[:8]))
        self.assertEqual(caught.exception.code, gateway_device.CONFLICT)
        self.assertIn("Conflict", str(caught.exception))
        self.assertRaises(
            RemoteProtocolError, gateway_device.read_answer, action, 404, b"no"
        )

    def test_values(self) -> None:
        """Addresses and ports are checked."""
        for text in ("", "0.0.0.0", "::1", "192.0.2", "router"):
            values = {"NewExternalIPAddress": text}
            self.assertRaises(
                RemoteProtocolError, gateway_device.read_external_address, values
            )
        for text in ("", "0", "65536", "9999999", "-1", "x", "²"):
            values = {"NewReservedPort": text}
            self.assertRaises(
                RemoteProtocolError, gateway_device.read_reserved_port, values
            )

    @given(st.binary(max_size=100) | XML, st.sampled_from([200, 500, 302]))
    def test_anything(self, body: bytes, status: int) -> None:
        """Whatever a device sends is an answer or an error."""
        action = gateway_device.external_address(SERVICE)
        inside = b"<Envelope>%b</Envelope>" % body
        for document in (body, inside):
            try:
                gateway_device.read_answer(action, status, document)
            except RemoteProtocolError:
                continue
        try:
            gateway_device.read_description(inside, BASE)
        except RemoteProtocolError:
            return
