"""Tests of the endpoint strings with the prefix ``udt``."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dwcloud.net.parsers import (
    CLIENT_FORM,
    SERVER_FORM,
    UDTClientParser,
    UDTServerParser,
)
from dwcloud.net.udt_endpoints import UDTClientEndpoint, UDTServerEndpoint


class UDTClientParserTests(SynchronousTestCase):
    """:class:`UDTClientParser`."""

    def setUp(self) -> None:
        self.parser = UDTClientParser()
        self.reactor = Clock()

    def parse(self, *args: str, **kwargs: str) -> UDTClientEndpoint:
        endpoint = self.parser.parseStreamClient(self.reactor, *args, **kwargs)
        assert isinstance(endpoint, UDTClientEndpoint)
        return endpoint

    def test_interfaces(self) -> None:
        """The parser and what it returns are what Twisted looks for."""
        self.assertTrue(
            verifyObject(IStreamClientEndpointStringParserWithReactor, self.parser)
        )
        self.assertTrue(verifyObject(IStreamClientEndpoint, self.parse("h", "1")))
        self.assertEqual(self.parser.prefix, "udt")

    def test_all_arguments(self) -> None:
        """Every argument arrives at the endpoint."""
        endpoint = self.parse(
            "example.org",
            "5000",
            localPort="4000",
            bindAddress="127.0.0.1",
            rendezvous="yes",
        )
        self.assertEqual(endpoint._host, "example.org")
        self.assertEqual(endpoint._port, 5000)
        self.assertEqual(endpoint._local_port, 4000)
        self.assertEqual(endpoint._bind_address, "127.0.0.1")
        self.assertTrue(endpoint._rendezvous)

    def test_defaults(self) -> None:
        """Host and port suffice, by place or by name."""
        for endpoint in (self.parse("::1", "5"), self.parse(host="::1", port="5")):
            self.assertEqual((endpoint._host, endpoint._port), ("::1", 5))
            self.assertEqual((endpoint._local_port, endpoint._bind_address), (0, ""))
            self.assertFalse(endpoint._rendezvous)

    def test_wrong_arguments(self) -> None:
        """Wrong arguments raise a ValueError that names the form."""
        for args, kwargs in (
            ((), {}),
            (("h",), {}),
            (("", "1"), {}),
            (("h", "0"), {}),
            (("h", "65536"), {}),
            (("h", "http"), {}),
            (("h", "1" * 5000), {}),
            (("h", "1", "2"), {}),
            (("h", "1"), {"host": "h"}),
            (("h", "1"), {"localPort": "-1"}),
            (("h", "1"), {"bindAddress": "localhost"}),
            (("h", "1"), {"rendezvous": "maybe"}),
            (("h", "1"), {"color": "red"}),
        ):
            with self.subTest(args=args, kwargs=kwargs):
                error = self.assertRaises(ValueError, self.parse, *args, **kwargs)
                self.assertIn(CLIENT_FORM, str(error))

    @given(
        st.lists(st.text(), max_size=4),
        st.dictionaries(
            st.sampled_from(["port", "localPort", "bindAddress", "rendezvous", "x"]),
            st.text(),
        ),
    )
    def test_any_arguments(self, args: list[str], kwargs: dict[str, str]) -> None:
        """Any arguments give an endpoint or a ValueError."""
        try:
            self.parse(*args, **kwargs)
        except ValueError as error:
            self.assertIn(CLIENT_FORM, str(error))

    def test_endpoint_string(self) -> None:
        """Twisted finds the parser by its prefix."""
        endpoint = clientFromString(self.reactor, "udt:192.0.2.1:5:rendezvous=yes")
        self.assertEqual(repr(endpoint), "<UDTClientEndpoint 192.0.2.1:5>")


class UDTServerParserTests(SynchronousTestCase):
    """:class:`UDTServerParser`."""

    def setUp(self) -> None:
        self.parser = UDTServerParser()
        self.reactor = Clock()

    def parse(self, *args: str, **kwargs: str) -> UDTServerEndpoint:
        endpoint = self.parser.parseStreamServer(self.reactor, *args, **kwargs)
        assert isinstance(endpoint, UDTServerEndpoint)
        return endpoint

    def test_interfaces(self) -> None:
        """The parser and what it returns are what Twisted looks for."""
        self.assertTrue(verifyObject(IStreamServerEndpointStringParser, self.parser))
        self.assertTrue(verifyObject(IStreamServerEndpoint, self.parse("1")))

    def test_all_arguments(self) -> None:
        """Every argument arrives at the endpoint."""
        endpoint = self.parse("5000", interface="::1", backlog="7")
        self.assertEqual(
            (endpoint._port, endpoint._interface, endpoint._backlog), (5000, "::1", 7)
        )

    def test_wrong_arguments(self) -> None:
        """Wrong arguments raise a ValueError that names the form."""
        for args, kwargs in (
            ((), {}),
            (("http",), {}),
            (("-1",), {}),
            (("1", "2"), {}),
            (("1",), {"interface": "eth0"}),
            (("1",), {"backlog": "0"}),
            (("1",), {"rendezvous": "yes"}),
        ):
            with self.subTest(args=args, kwargs=kwargs):
                error = self.assertRaises(ValueError, self.parse, *args, **kwargs)
                self.assertIn(SERVER_FORM, str(error))

    def test_endpoint_string(self) -> None:
        """Twisted finds the parser by its prefix."""
        endpoint = serverFromString(self.reactor, "udt:5:interface=127.0.0.1")
        self.assertEqual(repr(endpoint), "<UDTServerEndpoint 127.0.0.1:5>")
