"""Endpoint strings with the prefix ``dwcloud``."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import ConfigurationError, SystemUnknown
from dwcloud.net.identity import default_identity_directory
from dwcloud.peer.client import ConnectOptions
from dwcloud.peer.credentials import Credentials, CredentialStore
from dwcloud.peer.endpoints import CloudClientEndpoint, CloudServerEndpoint
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.parsers import (
    CLIENT_FORM,
    SERVER_FORM,
    CloudClientParser,
    CloudServerParser,
)
from dwcloud.peer.system_names import SystemReference
from dwcloud.protocol.names import PeerName
from dwcloud.testing import World

PEER = PeerName(uuid.UUID(int=1), uuid.UUID(int=2))


class ParserTestCase(SynchronousTestCase):
    """Strings read for a simulated reactor, without variables set outside."""

    def setUp(self) -> None:
        self.data = self.mktemp()
        self.patch(os, "environ", {"XDG_DATA_HOME": self.data})
        self.reactor: Any = World().lan().host("192.168.1.2").reactor

    def variable(self, value: str) -> None:
        """Name the mediator by the environment."""
        self.patch(
            os, "environ", {"XDG_DATA_HOME": self.data, "DWCLOUD_MEDIATOR": value}
        )


class ClientTests(ParserTestCase):
    """``dwcloud:PEER``."""

    def parse(self, *args: str, **kwargs: str) -> Any:
        return CloudClientParser().parseStreamClient(self.reactor, *args, **kwargs)

    def refusal(self, *args: str, **kwargs: str) -> str:
        """Why it is refused; the message names the form."""
        error = self.assertRaises(ConfigurationError, self.parse, *args, **kwargs)
        self.assertIn(CLIENT_FORM, str(error))
        return str(error)

    def test_least(self) -> None:
        """The peer alone, with everything by default."""
        self.assertEqual(
            self.parse(str(PEER)),
            CloudClientEndpoint(self.reactor, PEER, "", None, ConnectOptions()),
        )

    def test_all(self) -> None:
        """Each argument arrives where it belongs."""
        endpoint = self.parse(
            str(PEER.system),
            service="web",
            mediator="cloud.example:99",
            path="tcp",
            prefer="udp",
            timeout="7.5",
            interface="192.168.1.2",
            lan="no",
        )
        self.assertEqual(
            endpoint,
            CloudClientEndpoint(
                self.reactor,
                PeerName(PEER.system),
                "web",
                MediatorAddress("cloud.example", 99),
                ConnectOptions("tcp", "udp", 7.5),
                "192.168.1.2",
                False,
            ),
        )

    def test_mediator_from_the_environment(self) -> None:
        """A variable names the mediator, an argument goes before it."""
        self.variable("other.example")
        named = self.parse(str(PEER), mediator="cloud.example").mediator
        self.assertEqual(named, MediatorAddress("cloud.example"))
        named = self.parse(str(PEER)).mediator
        self.assertEqual(named, MediatorAddress("other.example"))

    def test_name(self) -> None:
        """A name of a system stands for its GUID, at the cloud that is signed in to."""
        endpoint = self.parse("anna/Garage", mediator="cloud.example")
        self.assertEqual(endpoint.peer, SystemReference("anna", "garage"))
        self.assertIsNotNone(endpoint.account)
        self.assertIsNone(self.parse("garage").mediator)
        credentials = Credentials("anna", uuid.UUID(int=5), "a", 1.0, "r", b"k" * 32)
        CredentialStore().save("other.example:3345", credentials)
        named = self.parse("garage").mediator
        self.assertEqual(named, MediatorAddress("other.example"))
        self.assertIsNone(self.parse(str(PEER)).mediator)

    def test_name_without_a_cloud(self) -> None:
        """Nobody knows names where no cloud is named."""
        connecting = self.parse("garage", lan="no").connect(Factory())
        error = self.failureResultOf(connecting, SystemUnknown).value
        self.assertIn("name its mediator", str(error))

    def test_refused(self) -> None:
        """Each wrong argument is named."""
        peer = str(PEER)
        for args, kwargs, words in (
            ((), {}, "PEER is missing"),
            (("",), {}, "PEER is missing"),
            (("x y",), {}, "'x y' is neither a GUID nor the name of a system"),
            ((f"{peer}x",), {}, "is not a GUID"),
            ((peer, "web"), {}, "'web' is too many"),
            ((peer,), {"peer": peer}, "given twice"),
            ((peer,), {"path": "x"}, "'x' is not one of auto, lan"),
            ((peer,), {"prefer": "relay"}, "neither udp nor tcp"),
            ((peer,), {"timeout": "0"}, "timeout"),
            ((peer,), {"timeout": "nan"}, "timeout"),
            ((peer,), {"timeout": "inf"}, "timeout"),
            ((peer,), {"timeout": "soon"}, "soon"),
            ((peer,), {"mediator": "a b"}, "'a b' is not a mediator"),
            ((peer,), {"interface": "eth0"}, "interface=eth0"),
            ((peer,), {"lan": "perhaps"}, "lan=perhaps"),
            ((peer,), {"serivce": "web"}, "serivce is not known"),
        ):
            self.assertIn(words, self.refusal(*args, **kwargs))

    def test_wrong_variable(self) -> None:
        """A variable with a wrong value is refused like an argument."""
        self.variable("a b")
        self.assertIn("'a b'", self.refusal(str(PEER)))

    @given(
        st.lists(st.text(max_size=9), max_size=2),
        st.dictionaries(
            st.sampled_from(["service", "path", "timeout", "lan", "interface", "x"]),
            st.text(max_size=9),
        ),
    )
    def test_any_arguments_survive(
        self, args: list[str], kwargs: dict[str, str]
    ) -> None:
        """Whatever is written is understood or refused in our words."""
        for given_args in (args, [str(PEER)]):
            try:
                self.parse(*given_args, **kwargs)
            except ConfigurationError as e:
                self.assertIn(CLIENT_FORM, str(e))

    def test_by_twisted(self) -> None:
        """Twisted finds the parser by the prefix."""
        endpoint = clientFromString(
            self.reactor, f"dwcloud:{PEER}:service=web:mediator=cloud.example\\:99"
        )
        self.assertIn("cloud.example", repr(endpoint))


class ServerTests(ParserTestCase):
    """``dwcloud:identity=DIR``."""

    def parse(self, *args: str, **kwargs: str) -> Any:
        return CloudServerParser().parseStreamServer(self.reactor, *args, **kwargs)

    def test_least(self) -> None:
        """Nothing need be given."""
        self.assertEqual(
            self.parse(),
            CloudServerEndpoint(
                self.reactor, default_identity_directory(), "default", None
            ),
        )

    def test_all(self) -> None:
        """Each argument arrives where it belongs."""
        endpoint = self.parse(
            identity="here",
            service="web",
            mediator="cloud.example",
            interface="192.168.1.2",
            lan="no",
            portMapping="no",
        )
        self.assertEqual(
            endpoint,
            CloudServerEndpoint(
                self.reactor,
                Path("here"),
                "web",
                MediatorAddress("cloud.example"),
                "192.168.1.2",
                False,
                port_mapping=(),
            ),
        )

    def test_refused(self) -> None:
        """Each wrong argument is named together with the form."""
        for args, kwargs, words in (
            (("x",), {}, "'x' is too many"),
            ((), {"portMapping": "igd"}, "'igd' is not one of"),
            ((), {"mediator": "a b"}, "'a b'"),
            ((), {"interface": "eth0"}, "interface=eth0"),
            ((), {"lan": "perhaps"}, "lan=perhaps"),
            ((), {"path": "tcp"}, "path is not known"),
        ):
            error = self.assertRaises(ConfigurationError, self.parse, *args, **kwargs)
            self.assertIn(words, str(error))
            self.assertIn(SERVER_FORM, str(error))

    def test_by_twisted(self) -> None:
        """Twisted finds the parser by the prefix."""
        endpoint = serverFromString(self.reactor, "dwcloud:identity=here:service=web")
        self.assertIn("here", repr(endpoint))
